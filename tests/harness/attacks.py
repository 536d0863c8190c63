"""What strangers do to a mail server, by name. Each coroutine is one attacker that goes on until it is cancelled.

Used by the tests of the reception, and by the bench, which runs `python -m tests.harness.attacks NAME PORT
ATTACKERS` as a process of its own.
"""

import asyncio
import contextlib
import random
import ssl
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

Attack = Callable[[int], Awaitable[None]]
_BLOCK: Final = 64 * 1024
_TO_DATA: Final = ("EHLO x", "MAIL FROM:<>", "RCPT TO:<u@here.example>", "DATA")


@asynccontextmanager
async def _connection(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while (line := await reader.readline())[3:4] == b"-":
        pass
    return line


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *lines: str) -> None:
    await _reply(reader)
    for line in lines:
        writer.write(f"{line}\r\n".encode())
        await _reply(reader)


async def _until_closed(port: int, *lines: str, send: Callable[[], bytes], read: bool = True) -> None:
    """A session that sends without end, after these lines."""
    async with _connection(port) as (reader, writer):
        await _converse(reader, writer, *lines)
        reading = asyncio.ensure_future(reader.read() if read else asyncio.Event().wait())
        try:
            while not reading.done() and not writer.transport.is_closing():
                writer.write(send())
                await writer.drain()
                await asyncio.sleep(0)
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def silence(port: int) -> None:
    """Connects, and says nothing."""
    async with _connection(port) as (reader, _):
        await reader.read()


async def drip(port: int) -> None:
    """A command, one octet at a time, that never ends."""
    async with _connection(port) as (reader, writer):
        await _reply(reader)
        while not reader.at_eof():
            writer.write(b"N")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.01)


async def text_drip(port: int) -> None:
    """A text, one octet at a time."""
    async with _connection(port) as (reader, writer):
        await _converse(reader, writer, *_TO_DATA)
        while not reader.at_eof():
            writer.write(b"x")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.01)


async def endless_line(port: int) -> None:
    """A command line without an end."""
    await _until_closed(port, send=lambda: b"x" * _BLOCK)


async def garbage(port: int) -> None:
    """Random octets, in groups."""
    await _until_closed(port, "EHLO x", send=lambda: random.randbytes(4096))


async def nuls(port: int) -> None:
    """Lines of NULs."""
    await _until_closed(port, "EHLO x", send=lambda: (b"\0" * 20 + b"\r\n") * 100)


async def deaf(port: int) -> None:
    """Asks without end, and never reads an answer."""
    await _until_closed(port, "EHLO x", send=lambda: b"NOOP\r\n" * 100, read=False)


async def endless_header(port: int) -> None:
    """A header without an end."""
    await _until_closed(port, *_TO_DATA, send=lambda: b"X-Header: and so on\r\n" * 3000)


async def hops(port: int) -> None:
    """Received headers without an end."""
    await _until_closed(port, *_TO_DATA, send=lambda: b"Received: x\r\n" * 5000)


async def dots(port: int) -> None:
    """Lines that all begin with a stuffed dot."""
    await _until_closed(port, *_TO_DATA, send=lambda: b"..\r\n" * 16_000)


async def returns(port: int) -> None:
    """Nothing but CR, each of which might begin the end."""
    await _until_closed(port, *_TO_DATA, send=lambda: b"\r" * _BLOCK)


async def bare_lines(port: int) -> None:
    """A text whose lines end in LF alone."""
    await _until_closed(port, *_TO_DATA, send=lambda: b"x\n" * 32_000)


async def names(port: int) -> None:
    """Tries names, in groups."""
    group = b"".join(b"RCPT TO:<u%d@elsewhere.example>\r\n" % n for n in range(100))
    await _until_closed(port, "EHLO x", "MAIL FROM:<>", send=lambda: group)


async def resets(port: int) -> None:
    """Connects, and is gone."""
    async with _connection(port):
        pass


async def after_starttls(port: int) -> None:
    """STARTTLS, and then nothing."""
    async with _connection(port) as (reader, writer):
        await _converse(reader, writer, "STARTTLS")
        await reader.read()


async def half_a_handshake(port: int) -> None:
    """STARTTLS, half a ClientHello, and gone."""
    async with _connection(port) as (reader, writer):
        await _converse(reader, writer, "STARTTLS")
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))
        await writer.drain()


async def handshakes(port: int) -> None:
    """Whole handshakes, and gone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with _connection(port) as (reader, writer):
        await _converse(reader, writer, "STARTTLS")
        await writer.start_tls(context)


ATTACKS: Final[Mapping[str, Attack]] = {
    one.__name__: one
    for one in (
        silence, drip, text_drip, endless_line, garbage, nuls, deaf, endless_header, hops, dots, returns,
        bare_lines, names, resets, after_starttls, half_a_handshake, handshakes,
    )
}  # fmt: skip


async def again_and_again(attack: Attack, port: int) -> None:
    """One attacker, who comes back whenever it is thrown out."""
    while True:
        # RuntimeError is uvloop's word for a write that comes after the end.
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError, RuntimeError):
            await attack(port)
        await asyncio.sleep(0.001)


async def _main(name: str, port: int, attackers: int) -> None:
    print("attacking", flush=True)
    await asyncio.gather(*(again_and_again(ATTACKS[name], port) for _ in range(attackers)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
