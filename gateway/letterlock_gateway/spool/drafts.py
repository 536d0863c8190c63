"""A body that comes in pieces: in memory while it is small, else in its file from the first piece on.

So a message costs a worker the same small memory whatever its size. Made by `Spool.draft` for the reception,
which writes what it gets, reads no more from a client while `full`, and hands the draft to `Spool.take`.
A draft that is never taken leaves nothing behind, also after a crash: a file that no message names is removed
when the spool is opened.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from letterlock_gateway.spool import headers
from letterlock_gateway.spool.bodies import IN_DATABASE, Bodies, OpenBody
from letterlock_gateway.spool.contents import Content, Traits
from letterlock_gateway.spool.failures import SpoolFailed

# Octets that are gathered for one write to the file: each is handed to a thread, which costs as much as 100 KiB.
_GATHER: Final = 256 * 1024


class Draft:
    """The body of message `mid`. All methods are for the event loop."""

    def __init__(self, mid: int, bodies: Bodies, threads: Executor, held: Callable[[int], None]) -> None:
        """`held` is told by how many octets what is in memory has grown or shrunk."""
        self.mid = mid
        self.size = 0
        """Octets so far."""
        self.message_id = ""
        """Of a body that lies in its file."""
        self.traits: Traits | None = None
        """What whoever wrote it found out about it; None: its delivery reads it once more than it has to."""
        self.room: Callable[[], None] | None = None
        """Called when it is no longer full."""
        self._bodies = bodies
        self._threads = threads
        self._held = held
        self._pending: list[bytes] = []
        self._waiting = 0
        self._header = b""
        self._file: OpenBody | None = None
        self._writing: asyncio.Future[None] | None = None
        self._problem: BaseException | None = None
        self._dropped = False

    @property
    def full(self) -> bool:
        """Whether the disk is behind: no more should come until `room` is called."""
        return self._writing is not None and self._waiting >= _GATHER

    @property
    def small(self) -> bytes | None:
        """The whole body, where it is small enough to lie in the database; None: it lies in its file."""
        return b"".join(self._pending) if self.size <= IN_DATABASE else None

    @property
    def content(self) -> Content | None:
        """What its delivery has to know of a body that lies in its file; None: that has to be read from there."""
        if self.traits is None or not self._header:
            return None
        return Content.known(self.size, self.traits, self._header, self._bodies.path(self.mid), self._threads)

    def write(self, piece: bytes) -> None:
        """Take the next piece."""
        self.size += len(piece)
        if self._problem is not None or self._dropped:
            return
        self._pending.append(piece)
        self._waiting += len(piece)
        self._held(len(piece))
        if self.size <= IN_DATABASE or self._writing is not None:
            return
        # The first write at once: it holds the header, of which something is told before all has come.
        if self._file is None or self._waiting >= _GATHER:
            self._write_pending()

    async def finish(self) -> None:
        """Have everything in the file, and on disk. Raises SpoolFailed, and nothing is left behind then."""
        while self._writing is not None or (self._pending and self._problem is None):
            if self._writing is None:
                self._write_pending()
            if self._writing is not None:
                await asyncio.wait([self._writing])
        problem = self._problem
        try:
            if problem is None and self._file is not None:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._file.sync)
        except (OSError, RuntimeError) as failure:
            problem = failure
        if problem is not None:
            self.discard()
            raise SpoolFailed(f"{type(problem).__name__}: {problem}") from problem
        self._file = None

    def discard(self) -> None:
        """It is not wanted. May be called at any time, and again."""
        self._dropped = True
        self._forget_pending()
        file, self._file = self._file, None
        if file is None:
            return
        if self._writing is not None:
            self._file = file  # removed when the write has ended
            return
        try:
            self._threads.submit(file.remove)
        except RuntimeError:  # the spool has been closed meanwhile
            file.remove()

    def _write_pending(self) -> None:
        pieces, size = self._pending, self._waiting
        self._pending, self._waiting = [], 0
        if self._file is None:
            start = b"".join(pieces)
            pieces = [start]
            self.message_id = headers.message_id(start)
            self._header = headers.of(start)
        file = self._file = self._file or OpenBody(self._bodies, self.mid)
        self._writing = asyncio.get_running_loop().run_in_executor(self._threads, file.write, pieces)
        self._writing.add_done_callback(lambda done: self._written(done, size))

    def _written(self, done: asyncio.Future[None], size: int) -> None:
        self._held(-size)
        self._writing = None
        problem = OSError("the write was cancelled") if done.cancelled() else done.exception()
        if problem is not None:
            self._problem = problem
            self._forget_pending()
        if self._dropped:
            self.discard()
        elif self._waiting >= _GATHER:
            self._write_pending()
        if not self.full and self.room is not None:
            self.room()

    def _forget_pending(self) -> None:
        self._held(-self._waiting)
        self._pending, self._waiting = [], 0
