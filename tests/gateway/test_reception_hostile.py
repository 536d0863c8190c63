"""Strangers cannot break the reception: after each attack nothing is left, and during it others are served."""

# pyright: reportPrivateUsage=false

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from OpenSSL import SSL

from letterlock_gateway.receive import times, turns
from tests.gateway.receiving import Client, Receiving, listener, receiving, running_set, trusting
from tests.harness import attacks
from tests.harness.attacks import ATTACKS
from tests.harness.certificates import Authority

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("mx.here.example")
TLS = trusting(AUTHORITY.pem)
ATTACKERS = 10


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Receiving]:
    async with receiving(tmp_path) as made:
        yield made


async def start(world: Receiving, **fields: object) -> None:
    policy = {"tls_mode": "Preferred", "max_connections_per_host": 1000, "max_message_size": 1 << 20}
    one = listener(world.port, certificates=[PAIR], policy=policy, **fields)  # pyright: ignore[reportArgumentType]
    [state] = await world.reception.apply(running_set(one, certificates=[PAIR], ca=AUTHORITY.pem))
    assert state.listening, state.problem


async def until(observe: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not observe():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def held(world: Receiving) -> dict[str, int]:
    """All that an attack could leave behind."""
    gc.collect()
    return {
        "connections": len(world.reception._connections),
        "counted": world.reception.limits.connections("public"),
        "of its tasks": len(world.reception._tasks),
        "tasks": len(asyncio.all_tasks()),
        "octets": world.reception.limits.buffered,
        "files": len(os.listdir(world.spool._bodies._directory)),  # noqa: PTH208
        "queued": world.spool.queue_length(),
        "descriptors": psutil.Process().num_fds(),
    }


@asynccontextmanager
async def nothing_left(world: Receiving, *, queued: int = 0) -> AsyncGenerator[None]:
    """After the body of the `with` all is as it was before, but for so many messages."""
    await letter(world)  # what is made once, by the first message, is there now
    before = held(world)
    before["queued"] += queued
    yield
    await as_before(world, before)


async def as_before(world: Receiving, before: dict[str, int]) -> None:
    """Nothing is held that was not held before. What the kernel has of a flood is read to its end first."""
    deadline = asyncio.get_running_loop().time() + 120
    while (now := held(world)) != before and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    assert now == before


async def letter(world: Receiving) -> None:
    """An honest client with its message."""
    client = await Client.connect(world.port)
    try:
        assert (await client.reply()).startswith("220")
        assert (await client.send(b"Subject: x\r\n\r\nx\r\n")).startswith("250")
        assert (await client.ask("QUIT")).startswith("221")
    finally:
        await client.close()


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_leaves_nothing_and_others_are_served(
    world: Receiving, monkeypatch: pytest.MonkeyPatch, name: str
):
    await start(world)
    async with nothing_left(world, queued=10):
        attackers = [
            asyncio.create_task(attacks.again_and_again(ATTACKS[name], world.port)) for _ in range(ATTACKERS)
        ]
        await until(lambda: world.log.count("New SMTP") > ATTACKERS, "all attackers have come")
        for _ in range(10):
            await letter(world)
        for one in attackers:
            one.cancel()
        await asyncio.wait(attackers)
        # Megabytes that nobody wants are still in the kernel: they need not be read slowly now.
        monkeypatch.setattr(turns, "UNWANTED_A_SECOND", 1 << 40)
    assert "failed:" not in world.log.replace("TLS failed:", "")


@pytest.mark.parametrize("name", ["silence", "drip", "text_drip", "after_starttls", "deaf"])
async def test_whoever_takes_too_long_is_let_go(world: Receiving, monkeypatch: pytest.MonkeyPatch, name: str):
    await start(world)
    async with nothing_left(world):
        for limit in ("IDLE", "TEXT", "SHORT", "HANDSHAKE"):
            monkeypatch.setattr(times, limit, 0.01)
        monkeypatch.setattr(times, "SLOWEST", 1e9)
        attackers = [asyncio.create_task(_once(name, world.port)) for _ in range(ATTACKERS)]
        async with asyncio.timeout(60):
            await asyncio.gather(*attackers)  # each ends by itself: it has been thrown out
        monkeypatch.undo()


async def _once(name: str, port: int) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # uvloop's word for a write that comes after the end
        await ATTACKS[name](port)


def test_a_text_has_time_for_its_size_and_no_more():
    patience = times.Patience()
    assert patience.until(100, text=True, said=True, refused=False) == 100 + times.BLOCK
    patience.octets = 50
    assert patience.until(650, text=True, said=False, refused=False) == 100 + times.TEXT + 0.1
    patience.octets = 25_000_000
    assert patience.until(650, text=True, said=False, refused=False) == 650 + times.BLOCK
    assert patience.until(9000, text=False, said=True, refused=False) == 9000 + times.IDLE
    assert patience.until(9000, text=False, said=True, refused=True) == 9000 + times.SHORT


# A client that vanishes


TO_DATA = ["EHLO x", "MAIL FROM:<>", "RCPT TO:<u@here.example>", "DATA"]
STATES: dict[str, tuple[list[str], bytes]] = {
    "before the greeting": ([], b""),
    "after EHLO": (TO_DATA[:1], b""),
    "within a command": (TO_DATA[:1], b"MAIL FR"),
    "after MAIL": (TO_DATA[:2], b""),
    "after RCPT": (TO_DATA[:3], b""),
    "at the text": (TO_DATA, b""),
    "within a short text": (TO_DATA, b"Subject: x\r\n\r\nhalf a li"),
    "within a long text": (TO_DATA, b"Subject: x\r\n\r\n" + b"half a line\r\n" * 40_000),
    "within the end of a text": (TO_DATA, b"Subject: x\r\n\r\nx\r\n."),
    "within a refused text": (TO_DATA, b"Subject: x\r\n\r\n\n" + b"half a line\r\n" * 1000),
    "with STARTTLS on its way": (TO_DATA[:1], b"STARTTLS\r\n"),
    "within STARTTLS": ([*TO_DATA[:1], "STARTTLS"], b"\x16\x03\x01\x02\x00\x01\x00"),
}


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "under TLS"])
@pytest.mark.parametrize("how", ["reset", "end"])
async def test_a_client_may_vanish_in_every_state(world: Receiving, how: str, tls: bool):
    await start(world)
    async with nothing_left(world):
        for lines, rest in STATES.values():
            if tls and (rest.startswith(b"STARTTLS") or "STARTTLS" in lines):
                continue
            client = await Client.connect(world.port)
            if lines or tls:
                await client.reply()
            if tls:
                await client.tls(TLS)
            for line in lines:
                assert (await client.ask(line))[0] in "23"
            client.writer.write(rest)
            with contextlib.suppress(ConnectionError):
                await client.writer.drain()
            if how == "reset":
                client.writer.transport.abort()
            await client.close()
        await until(lambda: world.log.count("New SMTP") == world.log.count(" close\n"), "all are gone")


@pytest.mark.parametrize("protocol", ["SMTP", "SMTPS"])
@pytest.mark.parametrize(
    "first", [b"", b"PROXY TCP4 192.", b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n\x16\x03"]
)
async def test_a_client_may_vanish_behind_a_balancer(
    world: Receiving, monkeypatch: pytest.MonkeyPatch, protocol: str, first: bytes
):
    await start(world, protocol=protocol, proxy_from=["127.0.0.1"])
    before: dict[str, int] = {}
    for how in ("end", "end", "reset", "wait"):
        client = await Client.connect(world.port)
        client.writer.write(first)
        with contextlib.suppress(ConnectionError):
            await client.writer.drain()
        if how == "wait":
            await until(lambda: world.reception._connections, "the connection is there")
            for one in list(world.reception._connections):
                one.time_out()
            with contextlib.suppress(ConnectionError):
                await client.reader.read()
        if how == "reset":
            client.writer.transport.abort()
        await client.close()
        await until(lambda: not world.reception._connections, f"it is gone: {how}")
        before = before or held(world)  # what the first one opens once for all is open now
    await as_before(world, before)


# TLS


async def test_renegotiation_is_refused(world: Receiving):
    """CVE-2011-1473: a client that renegotiates without end costs the server far more than itself."""
    await start(world)

    def renegotiate() -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        with socket.create_connection(("127.0.0.1", world.port), timeout=30) as raw:
            replies = raw.makefile("rb")
            replies.readline()
            raw.sendall(b"STARTTLS\r\n")
            assert replies.readline().startswith(b"220")
            raw.setblocking(True)
            secure = SSL.Connection(context, raw)
            secure.set_connect_state()
            secure.do_handshake()
            secure.send(b"NOOP\r\n")
            assert secure.recv(100).startswith(b"250")
            assert secure.renegotiate()
            with pytest.raises(SSL.Error):
                secure.do_handshake()

    async with nothing_left(world):
        await asyncio.to_thread(renegotiate)
    assert world.log.count("TLS success") == 1


async def test_old_protocols_are_not_spoken_by_default(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    old = trusting(AUTHORITY.pem)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old on purpose
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await client.tls(old)
    await client.close()
    await until(lambda: "ICID 1001 close" in world.log, "its end")
    assert "ICID 1001 TLS failed: the client's protocol versions are below tls.minVersion" in world.log
