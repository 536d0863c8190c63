"""TLS settings of policies and certificates by name, as openssl and Postfix meet them at a listener (L10)."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from letterlock_api.snapshot import AccessGroup
from tests.gateway.receiving import listener, receiving, running_set
from tests.harness import mounts, tls_programs
from tests.harness.certificates import Authority
from tests.harness.postfix import Postfix

AUTHORITY: Final = Authority()
PAIR: Final = AUTHORITY.issue("mx.here.example")
# Policies by the client's address: each its own TLS, on one port.
POLICIES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "modern": ("127.0.0.2", {"tls_mode": "Required", "min_version": "TLSv1.3"}),
    "narrow": ("127.0.0.3", {"tls_mode": "Preferred", "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"}),
    "ancient": ("127.0.0.4", {"tls_mode": "Preferred", "min_version": "TLSv1"}),
    "less-ancient": ("127.0.0.5", {"tls_mode": "Preferred", "min_version": "TLSv1.1"}),
}
_OLD: Final = ["-cipher", "ALL:@SECLEVEL=0"]
_OTHER: Final = ["-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"]
_VERSION: Final = "the client's protocol versions are below tls.minVersion"


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("127.0.0.2", ["-tls1_3"], "protocol TLSv1.3"),
        ("127.0.0.2", ["-tls1_2"], f"TLS failed: {_VERSION}"),
        ("127.0.0.3", ["-tls1_2"], "protocol TLSv1.2 cipher ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("127.0.0.3", ["-tls1_2", *_OTHER], "TLS failed: the client has no cipher of tls.ciphers"),
        ("127.0.0.4", ["-tls1", *_OLD], "protocol TLSv1 cipher"),
        ("127.0.0.4", ["-tls1_3"], "protocol TLSv1.3"),
        ("127.0.0.5", ["-tls1", *_OLD], f"TLS failed: {_VERSION}"),
        ("127.0.0.5", ["-tls1_1", *_OLD], "protocol TLSv1.1 cipher"),
        ("127.0.0.9", ["-tls1_1", *_OLD], f"TLS failed: {_VERSION}"),
        ("127.0.0.9", ["-tls1_2", *_OTHER], "protocol TLSv1.2 cipher ECDHE-ECDSA-AES256-GCM-SHA384"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
async def test_versions_and_ciphers_are_those_of_the_policy(
    tmp_path: Path, source: str, options: list[str], said: str
) -> None:
    groups = [AccessGroup(name=name, senders=[at], policy=name) for name, (at, _) in POLICIES.items()]
    policies: list[dict[str, object]] = [
        {"name": name, "behavior": "Accept", **fields} for name, (_, fields) in POLICIES.items()
    ]
    async with receiving(tmp_path) as world:
        one = listener(
            world.port,
            certificates=[PAIR],
            policy={"tls_mode": "Preferred"},
            policies=policies,
            groups=[*groups, AccessGroup(name="rest", senders=["ALL"], policy="default")],
        )
        await world.reception.apply(running_set(one, certificates=[PAIR]))
        bound = [*options, "-bind", f"{source}:0"]
        async with tls_programs.behind_tls("openssl", world.port, options=bound) as session:
            answer = await session.send() if await session.opened("openssl") else ""
        async with asyncio.timeout(60):
            while said not in world.log:
                await asyncio.sleep(0.01)
        assert answer.startswith("250") is ("TLS failed" not in said), (answer, world.log)
        assert world.log.count("TLS failed") == said.count("TLS failed")


NAMES: Final = (("mx.here.example",), ("mail.partner.example", "smtp.partner.example"), ("*.wild.example",))
PAIRS: Final = [AUTHORITY.issue(*names) for names in NAMES]


@pytest.mark.parametrize(
    ("client", "asked", "shown"),
    [
        ("openssl", "mx.here.example", "mx.here.example"),
        ("openssl", "mail.partner.example", "mail.partner.example"),
        ("openssl", "SMTP.Partner.Example", "smtp.partner.example"),
        ("openssl", "a.wild.example", "a.wild.example"),
        ("openssl", "a.b.wild.example", "mx.here.example"),
        ("openssl", "unknown.example", "mx.here.example"),
        ("openssl", "", "mx.here.example"),
        ("Postfix", "smtp.partner.example", "smtp.partner.example"),
        ("Postfix", "unknown.example", "mx.here.example"),
    ],
)
async def test_the_certificate_is_chosen_by_sni(tmp_path: Path, client: str, asked: str, shown: str) -> None:
    """`shown`: a name by which what is served verifies."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(AUTHORITY.pem)
    files = mounts.Files()
    served = [files.certificate(pem, f"c{number}") for number, pem in enumerate(PAIRS)]
    async with receiving(tmp_path) as world:
        one = listener(world.port, policy={"tls_mode": "Required"}).model_copy(
            update={"certificates": served}
        )
        await world.reception.apply(running_set(one, certificates=PAIRS))
        if client == "openssl":
            options = ["-CAfile", str(ca), "-verify_return_error", "-verify_hostname", shown]
            async with tls_programs.behind_tls("openssl", world.port, sni=asked, options=options) as session:
                assert await session.opened("openssl"), session.text
                assert (await session.send()).startswith("250")
            return

        def by_postfix() -> None:
            settings = {"smtp_tls_servername": asked}
            with Postfix.sending(world.port, ca=AUTHORITY.pem, match=[shown], settings=settings) as postfix:
                postfix.submit(b"Subject: x\n\nx\n", to="u@here.example")
                postfix.wait_said("status=sent")
                assert "Verified TLS connection established" in postfix.log

        await asyncio.to_thread(by_postfix)
