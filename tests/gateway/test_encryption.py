"""A listener's TLS, record by record, from a client that decides what goes out when."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.receiving import Client, Receiving, listener, receiving, running_set, trusting
from tests.harness.certificates import Authority

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("mx.here.example")
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Receiving]:
    async with receiving(tmp_path) as made:
        one = listener(made.port, certificates=[PAIR], policy={"tls_mode": "Preferred"})
        [state] = await made.reception.apply(running_set(one, certificates=[PAIR], ca=AUTHORITY.pem))
        assert state.listening, state.problem
        yield made


class ByHand:
    """TLS over a client's connection; octets go out when told to, in pieces of a given size."""

    def __init__(self, client: Client, version: ssl.TLSVersion) -> None:
        context = trusting(AUTHORITY.pem)
        context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname="mx.here.example")
        self.client = client

    @classmethod
    async def begin(cls, world: Receiving, version: ssl.TLSVersion) -> "ByHand":
        client = await Client.connect(world.port)
        assert (await client.reply()).startswith("220")
        assert (await client.ask("STARTTLS")).startswith("220")
        return cls(client, version)

    async def flush(self, size: int = 1 << 20) -> None:
        data = self.outgoing.read()
        for at in range(0, len(data), size):
            self.client.writer.write(data[at : at + size])
            await self.client.writer.drain()
            await asyncio.sleep(0)

    async def shake_hands(self, size: int = 1 << 20, *, last: bool = True) -> None:
        """Up to and including our Finished; not `last`: that is made, and still to be flushed."""
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush(size)
                await self.more()
            else:
                if last:
                    await self.flush(size)
                return

    async def more(self) -> None:
        async with asyncio.timeout(20):
            data = await self.client.reader.read(65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def read(self) -> bytes:
        """The next octets from inside; empty: close_notify. Raises SSLEOFError where it ends without."""
        while True:
            try:
                return self.session.read(65536)
            except ssl.SSLWantReadError:
                await self.more()

    async def until(self, word: bytes) -> bytes:
        got = b""
        while word not in got:
            piece = await self.read()
            assert piece, got
            got += piece
        return got


@VERSIONS
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
async def test_records_in_pieces_of_any_size(world: Receiving, version: ssl.TLSVersion, size: int):
    tls = await ByHand.begin(world, version)
    await tls.shake_hands(size)
    tls.session.write(b"EHLO x\r\n")
    await tls.flush(size)
    assert (await tls.until(b"250 ")).startswith(b"250-mx.here.example")
    await tls.client.close()


async def test_what_comes_with_the_last_of_the_handshake_is_not_lost(world: Receiving):
    tls = await ByHand.begin(world, ssl.TLSVersion.TLSv1_3)
    await tls.shake_hands(last=False)
    tls.session.write(b"EHLO x\r\n")
    tls.session.write(b"QUIT\r\n")  # input behind EHLO: a second record, read with the first
    await tls.flush()
    assert b"554 5.5.0" in await tls.until(b"\r\n")
    await tls.client.close()


@VERSIONS
async def test_the_end_is_said_and_no_reply_lost_whatever_else_comes(
    world: Receiving, version: ssl.TLSVersion
):
    tls = await ByHand.begin(world, version)
    await tls.shake_hands()
    tls.session.write(b"QUIT\r\n")
    for _ in range(50):  # nobody reads that any more, and it must not become a reset
        tls.session.write(b"x" * 10_000)
    await tls.flush()
    assert b"221 " in await tls.until(b"\r\n")
    assert await tls.read() == b""
    await tls.client.close()


@VERSIONS
async def test_the_last_reply_and_the_end_come_in_one_packet(world: Receiving, version: ssl.TLSVersion):
    tls = await ByHand.begin(world, version)
    connected = tls.client.writer.get_extra_info("socket")

    def packets() -> int:
        # struct tcp_info of linux/tcp.h: tcpi_data_segs_in
        return struct.unpack_from("I", connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 156), 152)[0]

    await tls.shake_hands()
    tls.session.write(b"EHLO x\r\n")
    await tls.flush()
    await tls.until(b"250 ")
    before = packets()
    tls.session.write(b"QUIT\r\n")
    await tls.flush()
    assert b"221 " in await tls.until(b"\r\n")
    assert await tls.read() == b""
    assert packets() == before + 1
    await tls.client.close()


async def test_nobody_waits_for_our_kernel_to_say_that_something_has_come(world: Receiving):
    """What it holds back for 40 ms keeps a client with Nagle's algorithm (Postfix) from its next command."""
    by_hand = await ByHand.begin(world, ssl.TLSVersion.TLSv1_3)
    connected = by_hand.client.writer.get_extra_info("socket")

    def unacknowledged() -> int:
        # struct tcp_info of linux/tcp.h: eight octets, rto, ato, snd_mss, rcv_mss, unacked
        return struct.unpack_from("I", connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28), 24)[0]

    await by_hand.shake_hands()
    await asyncio.sleep(0.01)
    assert unacknowledged() == 0, "the end of the handshake"
    for command in (b"EHLO x", b"MAIL FROM:<a@x.example>", b"RCPT TO:<b@here.example>", b"DATA"):
        by_hand.session.write(command + b"\r\n")
        await by_hand.flush()
        await by_hand.read()
    by_hand.session.write(b"Subject: in two pieces\r\n")
    await by_hand.flush()
    await asyncio.sleep(0.01)
    assert unacknowledged() == 0, "a piece of a text"
    await by_hand.client.close()


@VERSIONS
async def test_who_says_the_end_is_told_it_too(world: Receiving, version: ssl.TLSVersion):
    tls = await ByHand.begin(world, version)
    await tls.shake_hands()
    with pytest.raises(ssl.SSLWantReadError):
        tls.session.unwrap()
    await tls.flush()
    while True:
        try:
            tls.session.unwrap()
            break
        except ssl.SSLWantReadError:
            await tls.more()
        except ssl.SSLError:  # the ticket of TLS 1.3, which nobody has read
            tls.session.read(65536)
    async with asyncio.timeout(20):
        assert await tls.client.reader.read() == b""
    await tls.client.close()


async def test_a_handshake_that_cannot_be_says_why(world: Receiving):
    tls = await ByHand.begin(world, ssl.TLSVersion.TLSv1_3)
    tls.client.writer.write(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")  # a hello with nothing in it
    with pytest.raises(ssl.SSLError) as refused:
        await tls.shake_hands()
    assert "ALERT" in str(refused.value.reason)
    await tls.client.close()


async def test_nonsense_inside_tls_ends_the_connection_and_harms_no_other(world: Receiving):
    tls = await ByHand.begin(world, ssl.TLSVersion.TLSv1_3)
    other = await ByHand.begin(world, ssl.TLSVersion.TLSv1_3)
    await tls.shake_hands()
    await other.shake_hands()
    tls.client.writer.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError) as refused:
        await tls.until(b"never")
    assert "ALERT_BAD_RECORD_MAC" in str(refused.value.reason)
    other.session.write(b"EHLO x\r\n")
    await other.flush()
    assert b"250 " in await other.until(b"250 ")
    for one in (tls, other):
        await one.client.close()
