"""A member's own door: a socket in its spool directory, for its own user alone, for orders about the queue.

`serve` is the supervisor's side, `ask` that of the command that runs beside it (`manage.lookup`). One order and one
answer a connection, framed as on the workers' channels.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from letterlock_gateway import channel

NAME: Final = "control"
STATE: Final = "state"
"""Of an order (`do`): the member's state, as the operator hears it."""
# Seconds for one order: a worker may have to write down 100,000 recipients.
_SECONDS: Final = 60.0

type Order = channel.Message
type Carry = Callable[[Order], Awaitable[channel.Message]]


class NotRunning(Exception):  # noqa: N818 - says what is
    """No member serves this spool now."""


@asynccontextmanager
async def serve(spool: Path, carry: Carry) -> AsyncGenerator[None]:
    """Take orders in `spool` and answer what `carry` says of them. Raises OSError."""
    bound = _bind(spool)
    ours = (spool / NAME).stat().st_ino
    server = await asyncio.start_unix_server(lambda reader, writer: _serve(reader, writer, carry), sock=bound)
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(OSError):
            if (spool / NAME).stat().st_ino == ours:  # not that of a successor
                (spool / NAME).unlink()


async def ask(spool: Path, order: Order) -> dict[str, Any]:
    """What the member on `spool` says to `order`. Raises NotRunning."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _near(spool) as address:
            end.connect(address)
    except OSError as problem:
        end.close()
        raise NotRunning(f"no member runs on {spool}") from problem
    messages = await channel.Channel.open(end)
    try:
        await messages.send(channel.encode(order))
        async with asyncio.timeout(_SECONDS):
            answer = await messages.receive()
    except TimeoutError:
        answer = None
    finally:
        messages.close()
    if answer is None:
        raise NotRunning("the member gave no answer: see its log")
    return dict(answer)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, carry: Carry) -> None:
    messages = channel.Channel(reader, writer)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                order = await messages.receive()
                if order is not None:
                    await messages.send(channel.encode(await carry(order)))
    finally:
        messages.close()


def _bind(spool: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        (spool / NAME).unlink()  # of a member that was killed; a living one holds the spools' locks
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            with _near(spool) as address:
                bound.bind(address)
        finally:
            os.umask(before)
    except OSError:
        bound.close()
        raise
    return bound


@contextlib.contextmanager
def _near(spool: Path) -> Generator[str]:
    """The socket's address by way of its directory's descriptor: a path of more than 107 bytes cannot be used."""
    directory = os.open(spool, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{NAME}"
    finally:
        os.close(directory)
