"""Clients' certificates at a listener: judged by the same rules as receiving servers', with real handshakes."""

import ssl
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.gateway.receiving import Client, listener, receiving, running_set, trusting
from tests.harness.certificates import Authority
from tests.harness.issued import Issued

LONG: Final = (-1000, 1000)
AUTHORITY: Final = Authority()
SERVER: Final = AUTHORITY.issue("mx.here.example")


def made(name: str, issuer: Issued | None = None, **how: object) -> Issued:
    given: dict[str, object] = {"days": LONG, "now": datetime.now(UTC)}
    return Issued.make(name, issuer, **{**given, **how})  # pyright: ignore[reportArgumentType]


ROOT: Final = made("root", ca=True)
BETWEEN: Final = made("between", ROOT, ca=True)
PINNED: Final = made("partner.example", ca=True, names=["partner.example"])
PLAIN: Final = made("partner.example")
RENEWED: Final = made("partner.example", days=(-999, 999), key=PLAIN.key)
FOREIGN: Final = made("stranger", ca=True)


@pytest.fixture
async def outcome(tmp_path: Path) -> AsyncGenerator[object]:
    """A function that says what becomes of a message of a client with this chain."""
    async with receiving(tmp_path) as world:
        policy: dict[str, object] = {
            "tls_mode": "Required",
            "client_certificate": "Required",
            "client_names": ["partner.example"],
        }
        one = listener(world.port, certificates=[SERVER], policy=policy)
        listed = b"".join(one.pem for one in (ROOT, PINNED, PLAIN, RENEWED))
        await world.reception.apply(running_set(one, certificates=[SERVER], ca=listed))

        async def ask(*chain: Issued) -> str:
            path = tmp_path / "client.pem"
            path.write_bytes(chain[0].key_pem + b"".join(one.pem for one in chain))
            context = trusting(AUTHORITY.pem)
            # In TLS 1.3 a client learns of the refusal only with its first read.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(path)
            client = await Client.connect(world.port)
            try:
                await client.reply()
                await client.tls(context)
                return (await client.send(b"Subject: x\r\n\r\nx\r\n"))[:3]
            except (OSError, ssl.SSLError):
                return "handshake failed"
            finally:
                await client.close()

        yield ask


CLIENT = [ExtendedKeyUsageOID.CLIENT_AUTH]
CASES: Final[dict[str, tuple[Sequence[Issued], bool]]] = {
    "private PKI without names, key identifiers and key usage": ([made("partner.example", ROOT)], True),
    "an intermediate that is presented": ([made("partner.example", BETWEEN), BETWEEN], True),
    "an intermediate that is not": ([made("partner.example", BETWEEN)], False),
    "for clients": ([made("partner.example", ROOT, usages=CLIENT)], True),
    "for servers only": ([made("partner.example", ROOT, usages=[ExtendedKeyUsageOID.SERVER_AUTH])], False),
    "an intermediate for servers only": (
        [
            made(
                "partner.example",
                between := made("b", ROOT, ca=True, usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
            ),
            between,
        ],
        False,
    ),
    "self-signed, with CA:TRUE, and listed": ([PINNED], True),
    "self-signed, without CA:TRUE, and listed": ([PLAIN], True),
    "self-signed, renewed with the same key, and listed": ([RENEWED], True),
    "self-signed, and not listed": ([made("partner.example")], False),
    "signed by a listed end-entity certificate": ([made("partner.example", PINNED), PINNED], False),
    "a root that is presented and not listed": ([made("partner.example", FOREIGN), FOREIGN], False),
    "expired": ([made("partner.example", ROOT, days=(-900, -800))], False),
    "another name": ([made("other.example", ROOT)], False),
}


@pytest.mark.parametrize("case", CASES)
async def test_clients_are_judged_as_servers_are(outcome: object, case: str) -> None:
    chain, good = CASES[case]
    said = await outcome(*chain)  # pyright: ignore[reportCallIssue, reportUnknownVariableType]
    assert (said == "250") is good, said
