"""Clients that vanish, in every state of a session. Used by the test of what they leave behind."""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

How = Literal["reset", "end", "silence"]
HOWS: Final[tuple[How, ...]] = ("reset", "end", "silence")
_TO_DATA: Final = ("EHLO x", "MAIL FROM:<>", "RCPT TO:<u@here.example>", "DATA")


@dataclass(frozen=True)
class State:
    """How far a client goes before it vanishes."""

    lines: tuple[str, ...] = ()
    """Commands, each answered."""
    rest: bytes = b""
    """What it sends then, and is gone."""
    waits: bool = True
    """Whether it waits for the greeting."""
    in_clear: bool = False
    """A state that there is only before TLS."""
    stored: bool = False
    """Whether its message is whole, so that it is taken."""


STATES: Final[Mapping[str, State]] = {
    "before the greeting": State(waits=False, in_clear=True),
    "after the greeting": State(),
    "after EHLO": State(_TO_DATA[:1]),
    "within a command": State(_TO_DATA[:1], b"MAIL FR"),
    "after MAIL": State(_TO_DATA[:2]),
    "after RCPT": State(_TO_DATA[:3]),
    "within a group of commands": State(_TO_DATA[:2], b"RCPT TO:<u@here.example>\r\n" * 90),
    "at the text": State(_TO_DATA),
    "within a short text": State(_TO_DATA, b"Subject: x\r\n\r\nhalf a li"),
    "within a long text": State(_TO_DATA, b"Subject: x\r\n\r\n" + b"half a line\r\n" * 15_000),
    "within the end of a text": State(_TO_DATA, b"Subject: x\r\n\r\nx\r\n."),
    "within a refused text": State(_TO_DATA, b"Subject: x\r\n\r\n\n" + b"half a line\r\n" * 1000),
    "after the dot": State(_TO_DATA, b"Subject: x\r\n\r\nx\r\n.\r\n", stored=True),
    "with STARTTLS on its way": State(_TO_DATA[:1], b"STARTTLS\r\n", in_clear=True),
    "after STARTTLS": State((*_TO_DATA[:1], "STARTTLS"), in_clear=True),
    "within the handshake": State(
        (*_TO_DATA[:1], "STARTTLS"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        in_clear=True,
    ),
}


async def vanish(port: int, state: State, how: How, gone: asyncio.Event, tls: ssl.SSLContext | None) -> None:
    """One client. `silence`: it stays until `gone` is set or the server has closed. Raises what goes wrong before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if state.waits:
            await _reply(reader)
        if tls is not None:
            writer.write(b"STARTTLS\r\n")
            await _reply(reader)
            await writer.start_tls(tls)
        for line in state.lines:
            writer.write(f"{line}\r\n".encode())
            answer = await _reply(reader)
            assert answer[:1] in (b"2", b"3"), answer
        writer.write(state.rest)
        with contextlib.suppress(ConnectionError):
            if how == "silence":
                waiting = [asyncio.ensure_future(one) for one in (gone.wait(), reader.read())]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in waiting:
                    one.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
            else:
                await writer.drain()
    finally:
        if how == "reset":
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def _reply(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(120):
        while (line := await reader.readline())[3:4] == b"-":
            pass
    assert line, "closed without a word"
    return line
