"""A lean SMTP client over asyncio streams, for the load generator: no more than the bench needs."""

import asyncio
import ssl
from typing import Final

# One line of a reply; servers may send long EHLO lines, none that the bench meets is longer.
LIMIT: Final = 1 << 16


class UnexpectedReplyError(RuntimeError):
    """The server said something else than the bench asked for."""


def client_context() -> ssl.SSLContext:
    """TLS without verification: the bench measures the server, and both servers get the same client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def reply(reader: asyncio.StreamReader, wanted: bytes) -> None:
    """Read one reply to its last line. Raises UnexpectedReplyError unless its code is `wanted`."""
    while True:
        line = await reader.readline()
        if line[:3] != wanted:
            raise UnexpectedReplyError(f"wanted {wanted.decode()}, got {line!r}")
        if line[3:4] != b"-":
            return


async def send_one(address: str, port: int, context: ssl.SSLContext, envelope: bytes, data: bytes) -> None:
    """One whole session: connect, STARTTLS, one message, QUIT.

    `envelope` is the pipelined MAIL, RCPT and DATA; `data` the message with its final dot.
    """
    reader, writer = await asyncio.open_connection(address, port, limit=LIMIT)
    try:
        await reply(reader, b"220")
        writer.write(b"EHLO client.example\r\n")
        await reply(reader, b"250")
        writer.write(b"STARTTLS\r\n")
        await reply(reader, b"220")
        await writer.start_tls(context, server_hostname="mx.letterlock.example")
        writer.write(b"EHLO client.example\r\n")
        await reply(reader, b"250")
        writer.write(envelope)
        await reply(reader, b"250")
        await reply(reader, b"250")
        await reply(reader, b"354")
        writer.write(data)
        await reply(reader, b"250")
        writer.write(b"QUIT\r\n")
        await reply(reader, b"221")
    finally:
        writer.close()
