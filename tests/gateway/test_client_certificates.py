"""Client certificates at a listener, presented by openssl, GnuTLS, swaks and Postfix (L10)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from letterlock_gateway.mount import assemble
from letterlock_gateway.running import RunningSet
from tests.gateway.receiving import Receiving, listener, receiving, running_set
from tests.harness import mounts, tls_programs
from tests.harness.certificates import Authority
from tests.harness.issued import Issued
from tests.harness.postfix import Postfix
from tests.harness.swaks import swaks

AUTHORITY: Final = Authority()
PAIR: Final = AUTHORITY.issue("mx.here.example")
CLIENTS: Final = [ExtendedKeyUsageOID.CLIENT_AUTH]
SERVERS: Final = [ExtendedKeyUsageOID.SERVER_AUTH]


def made(name: str, issuer: Issued | None = None, **how: Any) -> Issued:
    # Long enough for the fixed clock of `receiving`.
    given: dict[str, Any] = {"now": datetime.now(UTC), "days": (-1000, 1000), "names": [name]}
    return Issued.make(name, issuer, **given | how)


ROOT: Final = made("root", ca=True, signs=True)
BETWEEN: Final = made("between", ROOT, ca=True, signs=True)
OTHER_ROOT: Final = made("elsewhere", ca=True, signs=True)
# What a client presents, and what the log says where it is not taken.
CHAINS: Final[dict[str, tuple[tuple[Issued, ...], str]]] = {
    "valid": ((made("partner.example", ROOT, usages=CLIENTS),), ""),
    "valid, by an intermediate": ((made("partner.example", BETWEEN, usages=CLIENTS), BETWEEN), ""),
    "of an unlisted CA": (
        (made("partner.example", OTHER_ROOT), OTHER_ROOT),
        "TLS failed: client certificate not trusted: self-signed certificate in certificate chain",
    ),
    "expired": (
        (made("partner.example", ROOT, days=(-900, -800)),),
        "TLS failed: client certificate not trusted: certificate has expired",
    ),
    "not valid yet": (
        (made("partner.example", ROOT, days=(10, 20)),),
        "TLS failed: client certificate not trusted: certificate is not yet valid",
    ),
    "for servers": (
        (made("partner.example", ROOT, usages=SERVERS),),
        "TLS failed: client certificate not trusted: unsuitable certificate purpose",
    ),
}
MISSING: Final = "TLS failed: no client certificate was presented"


def pem_of(chain: tuple[Issued, ...]) -> bytes:
    return chain[0].key_pem + b"".join(one.pem for one in chain)


def written(directory: Path, chain: tuple[Issued, ...]) -> Path:
    path = directory / "client.pem"
    path.write_bytes(pem_of(chain))
    path.chmod(0o600)
    return path


@asynccontextmanager
async def asking(directory: Path, **policy: Any) -> AsyncGenerator[Receiving]:
    async with receiving(directory) as world:
        one = listener(world.port, certificates=[PAIR], policy={"tls_mode": "Preferred", **policy})
        await world.reception.apply(running_set(one, certificates=[PAIR], ca=ROOT.pem))
        yield world


async def logged(world: Receiving, words: str) -> None:
    async with asyncio.timeout(60):
        while words not in world.log:
            await asyncio.sleep(0.01)


async def by_program(program: tls_programs.Program, port: int, pem: Path | None, *options: str) -> str:
    async with tls_programs.behind_tls(program, port, pem=pem, options=options) as session:
        if not await session.opened(program):
            return ""
        return await session.send()


@pytest.mark.parametrize("asked", ["None", "Optional", "Required"])
@pytest.mark.parametrize("program", ["openssl", "gnutls-cli"])
async def test_what_becomes_of_each_certificate(
    tmp_path: Path, program: tls_programs.Program, asked: str
) -> None:
    """An invalid one is refused even where none is asked for by force: somebody means to be somebody."""
    for words, (chain, problem) in {"no certificate": ((), MISSING), **CHAINS}.items():
        async with asking(tmp_path / words, client_certificate=asked) as world:
            pem = written(tmp_path, chain) if chain else None
            answer = await by_program(program, world.port, pem)
            refused = bool(problem) and asked == ("Required" if not chain else asked) and asked != "None"
            assert answer.startswith("250 2.1.5") is not refused, (words, answer, world.log)
            if refused:
                await logged(world, problem)
            else:
                assert "TLS failed" not in world.log
            verified = "client certificate verified: CN=partner.example" in world.log
            assert verified is (bool(chain) and not problem and asked != "None"), (words, world.log)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_client_that_comes_again_brings_its_whole_chain_again(tmp_path: Path, version: str) -> None:
    """A resumed session would keep the certificate without its intermediates, and so be refused."""
    session = tmp_path / "session"
    async with asking(tmp_path, client_certificate="Required") as world:
        pem = written(tmp_path, CHAINS["valid, by an intermediate"][0])
        for option in ("-sess_out", "-sess_in"):
            assert (await by_program("openssl", world.port, pem, version, option, str(session))).startswith(
                "250"
            )
            if not session.exists():  # TLS 1.3: there is none to be had
                assert version == "-tls1_3"
                break
        assert "TLS failed" not in world.log


# Relaying by certificate: whom the certificate must name, by each of the three ways.
PARTNER: Final = CHAINS["valid"][0]
STRANGER: Final = (made("stranger.example", ROOT, usages=CLIENTS),)
ELSEWHERE: Final = (made("partner.example", OTHER_ROOT, usages=CLIENTS),)
CHOSEN: Final[dict[str, dict[str, Any]]] = {
    "names": {"client_names": ["other.example", "partner.example"]},
    "fingerprints": {"client_fingerprints": [sha256(PARTNER[0].der).hexdigest()]},
    "caListRefs": {"client_ca_lists": ["partners"]},
}
REFUSALS: Final = {
    "names": "names of the client certificate (stranger.example) are not listed",
    "fingerprints": "fingerprint of the client certificate (CN=stranger.example) is not listed",
    "caListRefs": "client certificate not trusted: unable to get local issuer certificate",
}


def relaying(port: int, **policy: Any) -> RunningSet:
    """A listener that relays for everybody with the right certificate; the web's CAs are listed, too."""
    files = mounts.Files()
    served = files.certificate(PAIR)
    one = listener(
        port,
        policy={
            "behavior": "Relay",
            "tls_mode": "Required",
            "client_certificate": "Required",
            **policy,
        },
    ).model_copy(update={"certificates": [served]})
    trust = {"partners": files.trust(ROOT.pem), "web": files.trust(OTHER_ROOT.pem)}
    taken = mounts.snapshot(files, hostname="mx.here.example", listeners=[one], trust=trust)
    return RunningSet.build(assemble(taken.encode(), files.content), "default-0")


@pytest.mark.parametrize("how", CHOSEN)
async def test_a_chosen_certificate_relays_and_no_other(tmp_path: Path, how: str) -> None:
    async with receiving(tmp_path) as world:
        await world.reception.apply(relaying(world.port, **CHOSEN[how]))

        def send(chain: tuple[Issued, ...]) -> str:
            pem = str(written(tmp_path, chain))
            tls = ["--tls-cert", pem, "--tls-key", pem]
            return swaks(
                world.port,
                to="u@elsewhere.example",
                data=b"Subject: x\n\nx\n",
                directory=tmp_path,
                options=tls,
            ).text

        other = ELSEWHERE if how == "caListRefs" else STRANGER
        assert "250 2.0.0 Ok: queued" in await asyncio.to_thread(send, PARTNER)
        assert "250 2.0.0 Ok: queued" not in await asyncio.to_thread(send, other)
        await logged(world, REFUSALS[how])
        assert len(await world.stored()) == 1
        for program in ("openssl", "gnutls-cli"):
            for chain in (other, ()):
                pem = written(tmp_path, chain) if chain else None
                async with tls_programs.behind_tls(program, world.port, pem=pem) as session:
                    opened = await session.opened(program)
                    assert not (await session.send(to="u@elsewhere.example") if opened else "").startswith(
                        "250"
                    )


async def test_postfix_relays_by_its_certificate(tmp_path: Path) -> None:
    """Again and again over new connections, with a session cache: it resumes where it can."""
    async with receiving(tmp_path) as world:
        await world.reception.apply(relaying(world.port, **CHOSEN["names"]))
        chain = CHAINS["valid, by an intermediate"][0]

        def send(pem: bytes | None, *outcomes: str) -> None:
            settings = {
                "smtp_tls_session_cache_database": "btree:${data_directory}/sessions",
                "smtp_connection_cache_on_demand": "no",
                "smtp_tls_loglevel": "1",
            }
            with Postfix.sending(world.port, tls="encrypt", certificate=pem, settings=settings) as postfix:
                for number, outcome in enumerate(outcomes):
                    to = f"u{number}@elsewhere.example"
                    postfix.submit(b"Subject: x\n\nx\n", to=to)
                    postfix.wait_said(f"to=<{to}>")
                    assert any(
                        f"to=<{to}>" in line and outcome in line for line in postfix.log.splitlines()
                    ), postfix.log

        await asyncio.to_thread(send, pem_of(chain), "status=sent", "status=sent", "status=sent")
        assert len(await world.stored()) == 3
        assert world.log.count("client certificate verified: CN=partner.example") == 3
        for pem in (pem_of(STRANGER), pem_of(CHAINS["expired"][0]), None):
            await asyncio.to_thread(send, pem, "status=")
        assert await world.stored() == []
        await logged(world, MISSING)
        await logged(world, REFUSALS["names"])
        await logged(world, "client certificate not trusted")


async def test_tls_is_mandatory_for_listed_senders(tmp_path: Path) -> None:
    async with receiving(tmp_path) as world:
        listed = ["boss@client.example", "bank.example", ".partner.example"]
        one = listener(
            world.port, certificates=[PAIR], policy={"tls_mode": "Preferred", "required_for_senders": listed}
        )
        await world.reception.apply(running_set(one, certificates=[PAIR], ca=ROOT.pem))

        def by_swaks(sender: str, *, tls: bool) -> str:
            return swaks(
                world.port,
                sender=sender,
                to="u@here.example",
                data=b"Subject: x\n\nx\n",
                tls=tls,
                directory=tmp_path,
            ).text

        refused = "530 5.7.0 Must issue a STARTTLS command first"
        for sender in (
            "boss@client.example",
            "BOSS@Client.Example",
            "any@bank.example",
            "a@b.partner.example",
        ):
            assert refused in await asyncio.to_thread(by_swaks, sender, tls=False), sender
            assert "queued as" in await asyncio.to_thread(by_swaks, sender, tls=True), sender
            await logged(world, f"TLS was required of <{sender}> but remote host did not initiate it")
        for sender in ("clerk@client.example", "a@partner.example", "a@sub.bank.example", "<>"):
            assert "queued as" in await asyncio.to_thread(by_swaks, sender, tls=False), sender

        def by_postfix() -> None:
            with Postfix.sending(world.port, tls="none") as postfix:
                postfix.submit(b"Subject: x\n\nx\n", to="one@here.example", sender="any@bank.example")
                postfix.wait_said("Must issue a STARTTLS command first")
                postfix.submit(b"Subject: x\n\nx\n", to="two@here.example", sender="any@other.example")
                postfix.wait_said("status=sent")
            with Postfix.sending(world.port, tls="may") as postfix:
                postfix.submit(b"Subject: x\n\nx\n", to="three@here.example", sender="any@bank.example")
                postfix.wait_said("status=sent")

        await asyncio.to_thread(by_postfix)
        found = {one.address: one.received_protocol for one in await world.stored()}
        assert "one@here.example" not in found
        assert found["three@here.example"] == "TLSv1.3"
