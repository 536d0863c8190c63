"""The mail log's lines, whole, as real clients bring them about: what people grep for, and what the reference says."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from letterlock_api.snapshot import AccessGroup
from tests.gateway.receiving import Receiving, listener, receiving, running_set
from tests.harness import programs
from tests.harness.certificates import Authority
from tests.harness.swaks import swaks

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("mx.here.example")
_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:Info|Warning): (.*)")
NEW = "New SMTP ICID 1001 interface public (127.0.0.1) address 127.0.0.1"
ACCEPTED = [NEW, "ICID 1001 ACCEPT SG all match ALL"]
REQUIRED = "ICID 1001 TLS was required but remote host did not initiate it"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Receiving]:
    async with receiving(tmp_path) as made:
        yield made


async def start(world: Receiving, policy: dict[str, object], **fields: object) -> None:
    one = listener(world.port, certificates=[PAIR], policy=policy, **fields)  # pyright: ignore[reportArgumentType]
    [state] = await world.reception.apply(running_set(one, certificates=[PAIR], ca=AUTHORITY.pem))
    assert state.listening, state.problem
    world.lines.clear()


async def told(
    world: Receiving, options: Sequence[str] = (), *, tls: bool = False, to: str = "u@here.example"
) -> list[str]:
    """What the log says of one session of swaks, from its beginning to its end."""
    await asyncio.to_thread(swaks, world.port, sender="a@b.example", to=to, tls=tls, options=options)
    return await lines(world)


async def lines(world: Receiving) -> list[str]:
    async with asyncio.timeout(60):
        while "ICID 1001 close\n" not in world.log:
            await asyncio.sleep(0.01)
    found = [_LINE.fullmatch(line) for line in world.log.splitlines()]
    assert all(found)
    return [one[1] for one in found if one]


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "over STARTTLS"])
async def test_a_message(world: Receiving, tls: bool):
    await start(world, {"tls_mode": "Preferred"})
    assert await told(world, tls=tls) == [
        *ACCEPTED,
        *(["ICID 1001 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384"] if tls else []),
        "Start MID 1001 ICID 1001",
        "MID 1001 ICID 1001 From: <a@b.example>",
        "MID 1001 ICID 1001 RID 1001 To: <u@here.example>",
        "MID 1001 queued for delivery",
        "ICID 1001 close",
    ]


async def test_required_and_not_used(world: Receiving):
    """At the error, and at the end of the connection that had no recipient accepted."""
    await start(world, {"tls_mode": "Required"})
    assert await told(world) == [*ACCEPTED, REQUIRED, REQUIRED, "ICID 1001 close"]


async def test_required_and_gone_without_a_word(world: Receiving):
    await start(world, {"tls_mode": "Required"})
    assert await told(world, ["--quit-after", "CONNECT"]) == [*ACCEPTED, REQUIRED, "ICID 1001 close"]


async def test_required_and_used_says_nothing_of_it(world: Receiving):
    await start(world, {"tls_mode": "Required"})
    assert REQUIRED not in await told(world, tls=True)


async def test_required_of_a_sender(world: Receiving):
    await start(world, {"tls_mode": "Preferred", "required_for_senders": ["b.example"]})
    wanted = "ICID 1001 TLS was required of <a@b.example> but remote host did not initiate it"
    assert await told(world) == [*ACCEPTED, wanted, "ICID 1001 close"]


async def test_a_recipient_is_refused(world: Receiving):
    await start(world, {"tls_mode": "Preferred"})
    assert await told(world, to="u@elsewhere.example") == [
        *ACCEPTED,
        "ICID 1001 To: <u@elsewhere.example> rejected: Address rejected: mail for it is not taken here",
        "ICID 1001 close",
    ]


async def test_a_message_is_refused(world: Receiving):
    await start(world, {"tls_mode": "Preferred", "max_message_size": 10})
    assert await told(world) == [
        *ACCEPTED,
        "ICID 1001 message from <a@b.example> refused: 552 The message is too big",
        "ICID 1001 close",
    ]


@pytest.mark.parametrize("behavior", ["Relay", "Reject", "TCPRefuse"])
async def test_host_access(world: Receiving, behavior: str):
    groups = [AccessGroup(name="some", senders=["127.0.0.0/8"], policy="p")]
    await start(world, {}, groups=groups, policies=[{"name": "p", "behavior": behavior}])
    said = await told(world, ["--quit-after", "HELO"])
    assert said == [NEW, f"ICID 1001 {behavior.upper()} SG some match 127.0.0.0/8", "ICID 1001 close"]


FAILURES: dict[str, tuple[dict[str, object], list[str], str]] = {
    "old protocols": (
        {"min_version": "TLSv1.3"},
        ["-tls1_2"],
        "the client's protocol versions are below tls.minVersion (UNSUPPORTED_PROTOCOL)",
    ),
    "no cipher in common": (
        {},
        ["-tls1_2", "-cipher", "AES128-SHA"],
        "the client has no cipher of tls.ciphers, or none for our key (NO_SHARED_CIPHER)",
    ),
    "our CA is unknown": (
        {},
        ["-tls1_2", "-verify_return_error", "-verify", "1"],
        "the client does not trust the CA of our certificate (TLSV1_ALERT_UNKNOWN_CA)",
    ),
    "no client certificate": (
        {"client_certificate": "Required"},
        ["-tls1_2"],
        "no client certificate was presented (PEER_DID_NOT_RETURN_A_CERTIFICATE)",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_handshake_fails(world: Receiving, name: str):
    """With openssl's client."""
    policy, options, why = FAILURES[name]
    await start(world, {"tls_mode": "Required", **policy})
    command = ["s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{world.port}", *options]
    client = await asyncio.create_subprocess_exec(
        programs.require("openssl"),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await client.wait() != 0
    assert await lines(world) == [*ACCEPTED, f"ICID 1001 TLS failed: {why}", "ICID 1001 close"]
