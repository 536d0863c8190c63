"""The body of a message on its way out: in memory where it is small, else read piece by piece from its file.

So a delivery costs a worker the same small memory whatever the message's size, as its reception did (`drafts`).
Made by `Spool.content` for the delivery.
"""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from pathlib import Path
from typing import BinaryIO, Final, Self

from letterlock_gateway import values
from letterlock_gateway.spool.failures import SpoolFailed

# Octets of one read.
_PIECE: Final = 256 * 1024
# As much of a body as is kept at hand, for its header. A header that is longer is no mail program's.
_START: Final = 256 * 1024


@values.value
class Traits:
    """What was found out about a body while it came in."""

    ascii: bool
    """Whether it has no octet above 127."""
    plain: bool
    """Whether all its line ends are CRLF, and no line begins with a dot."""


@values.value
class Content:
    """A body, and what has to be known of it before it is sent."""

    size: int
    """Octets."""
    ascii: bool
    """Whether it has no octet above 127."""
    start: bytes
    """All of a small body; of a large one its header with the empty line behind it, or the first 256 KiB."""
    plain: bool = False
    """Whether it is known that it can go out as it is: all its line ends are CRLF, and no line begins with a dot."""
    _path: Path | None = None
    _threads: Executor | None = None

    @classmethod
    def of(cls, body: bytes) -> Self:
        """One that is in memory."""
        return cls(len(body), body.isascii(), body)

    @classmethod
    def survey(cls, path: Path, threads: Executor) -> Self:
        """One that is in a file. Blocking: reads all of it once. Raises OSError."""
        with path.open("rb") as file:
            piece = start = file.read(_START)
            size, ascii_so_far = len(piece), piece.isascii()
            while piece := file.read(_PIECE):
                size += len(piece)
                ascii_so_far = ascii_so_far and piece.isascii()
        return cls(size, ascii_so_far, start, _path=path, _threads=threads)

    @classmethod
    def known(cls, size: int, traits: "Traits", header: bytes, path: Path, threads: Executor) -> Self:
        """One that is in a file and need not be read to know it."""
        return cls(size, traits.ascii, header, traits.plain, path, threads)

    @property
    def header(self) -> bytes:
        """Its header, or as much of it as is at hand."""
        end = self.start.find(b"\r\n\r\n")
        return self.start if end < 0 else self.start[:end]

    async def pieces(self) -> AsyncGenerator[bytes]:
        """All of it, in order. Raises SpoolFailed, perhaps in the midst of it."""
        if self._path is None or self.size == len(self.start):
            yield self.start
            return
        loop, sent = asyncio.get_running_loop(), 0
        try:
            file = await loop.run_in_executor(self._threads, _open, self._path)
            with file:
                while piece := await loop.run_in_executor(self._threads, file.read, _PIECE):
                    sent += len(piece)
                    yield piece
        except OSError as problem:
            raise SpoolFailed(f"the body cannot be read: {problem}") from problem
        if sent != self.size:
            raise SpoolFailed(f"the body has {sent} octets where there were {self.size}")


def _open(path: Path) -> BinaryIO:
    return path.open("rb")
