"""Hands one message to another member, over mutual TLS. Called by `leaving`.

HTTP/1.1 by hand, as the endpoint on the other side is: one request, one answer, one connection.
"""

import asyncio
import contextlib
import ssl
from typing import Final

from letterlock_api.state import HANDOVER_PATH, INTERNAL_SERVER_NAME
from letterlock_gateway.mount import Identity
from letterlock_gateway.tls import contexts

# Seconds for a connection, and for one message; a large one takes its time to be written over there.
_CONNECT: Final = 5.0
_SEND: Final = 120.0
_HEAD: Final = (
    f"POST {HANDOVER_PATH} HTTP/1.1\r\nHost: {INTERNAL_SERVER_NAME}\r\nContent-Length: {{}}\r\n\r\n"
)


class PeerRefused(Exception):  # noqa: N818 - says what happened
    """The peer has not taken it, and says so, or was not reached at all."""


class PeerSilent(Exception):  # noqa: N818 - says what happened
    """The peer got some of it and gave no answer: it may have taken it. Only it can tell: send it there again."""


def context_of(identity: Identity) -> ssl.SSLContext:
    """What a member proves itself with towards others, and how it knows them. Raises BadCertificate."""
    context = contexts.client_context(min_version="TLSv1.3", ciphers=None, certificate=identity.certificate)
    # Unlike everything that delivers mail, this knows exactly whom it expects.
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.load_verify_locations(cadata=identity.ca.decode("ascii", "replace"))
    return context


async def send(address: str, port: int, context: ssl.SSLContext, letter: bytes) -> int:
    """Have the member at `address` take `letter`. Gives its number there. Raises PeerRefused, PeerSilent."""
    try:
        async with asyncio.timeout(_CONNECT):
            reader, writer = await asyncio.open_connection(
                address, port, ssl=context, server_hostname=INTERNAL_SERVER_NAME
            )
    except (OSError, TimeoutError) as problem:
        raise PeerRefused(f"no connection to {address}: {problem or type(problem).__name__}") from problem
    try:
        async with asyncio.timeout(_SEND):
            writer.write(_HEAD.format(len(letter)).encode())
            writer.write(letter)
            await writer.drain()
            answer = await reader.read()
    except (OSError, TimeoutError) as problem:
        raise PeerSilent(f"{address}: {problem or type(problem).__name__}") from problem
    finally:
        with contextlib.suppress(OSError):
            writer.close()
    first, _, rest = answer.partition(b"\r\n")
    text = rest.partition(b"\r\n\r\n")[2].decode(errors="replace").strip()
    words = first.split()
    if len(words) < 2:
        raise PeerSilent(f"{address} closed the connection")
    if words[1] == b"200" and text.isdecimal():
        return int(text)
    raise PeerRefused(f"{address} answers {words[1].decode(errors='replace')}: {text[:200]}")
