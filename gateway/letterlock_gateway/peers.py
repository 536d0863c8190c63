"""Speaks to other members of the gateway, over mutual TLS. Called by `handover.sending` and `manage.gathering`.

HTTP/1.1 by hand, as the endpoint on the other side is: one request, one answer, one connection.
"""

import asyncio
import contextlib
import os
import ssl
from dataclasses import dataclass
from typing import Final

from letterlock_api.state import INTERNAL_SERVER_NAME
from letterlock_gateway.mount import Identity
from letterlock_gateway.tls import contexts

_PIECE: Final = 65536


class PeerRefused(Exception):  # noqa: N818 - says what happened
    """The peer has not taken it, and says so, or was not reached at all."""


class PeerUnreached(PeerRefused):
    """There was no connection to the peer."""


class PeerSilent(Exception):  # noqa: N818 - says what happened
    """The peer got some of it and gave no answer: it may have acted on it."""


@dataclass(frozen=True)
class Patience:
    """Seconds, and bytes."""

    connect: float
    """Until the TLS connection stands."""
    answer: float
    """From then until the answer is there whole."""
    most: int
    """An answer that is longer is none."""


def context_of(identity: Identity) -> ssl.SSLContext:
    """What a member proves itself with towards others, and how it knows them. Raises BadCertificate."""
    context = contexts.client_context(min_version="TLSv1.3", ciphers=None, certificate=identity.certificate)
    # Unlike everything that delivers mail, this knows exactly whom it expects.
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.load_verify_locations(cadata=identity.ca.decode("ascii", "replace"))
    return context


async def post(
    address: str, port: int, context: ssl.SSLContext, path: str, content: bytes, patience: Patience
) -> bytes:
    """What the member at `address` answers to `content`. Raises PeerRefused, PeerUnreached, PeerSilent."""
    try:
        async with asyncio.timeout(patience.connect):
            reader, writer = await asyncio.open_connection(
                address, port, ssl=context, server_hostname=INTERNAL_SERVER_NAME
            )
    except (OSError, TimeoutError) as problem:
        raise PeerUnreached(f"no connection to {address}: {_in_words(problem)}") from problem
    try:
        async with asyncio.timeout(patience.answer):
            writer.write(_head(path, len(content)))
            writer.write(content)
            await writer.drain()
            answer = await _read(reader, patience.most)
    except (OSError, TimeoutError) as problem:
        raise PeerSilent(f"{address}: {_in_words(problem)}") from problem
    finally:
        with contextlib.suppress(OSError):
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.partition(b"\r\n")[0].split()
    if len(words) < 2:
        raise PeerSilent(f"{address} closed the connection")
    if words[1] == b"200":
        return body
    said = body.decode(errors="replace").strip()[:200]
    raise PeerRefused(f"{address} answers {words[1].decode(errors='replace')}: {said}")


def _in_words(problem: OSError) -> str:
    """What went wrong, without Python's way to write it."""
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if problem.errno is not None and not isinstance(problem, ssl.SSLError):
        return os.strerror(problem.errno)
    return str(problem) or type(problem).__name__


def _head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {INTERNAL_SERVER_NAME}\r\nContent-Length: {length}\r\n\r\n".encode()
    )


async def _read(reader: asyncio.StreamReader, most: int) -> bytes:
    answer = bytearray()
    while piece := await reader.read(_PIECE):
        answer += piece
        if len(answer) > most:
            raise OSError(f"its answer is longer than {most} bytes")
    return bytes(answer)
