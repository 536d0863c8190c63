"""Group commit: one thread that writes.

Changes are gathered on the event loop, while the thread is at a transaction and while the loop has other work; then
they go to the thread, for one transaction with one sync (docs/decisions/0048-commits-wait-while-there-is-work.md).
Each change has a future, which is resolved on the event loop after its commit. A caller that was cancelled meanwhile
is no reason to leave a change out: once it is submitted, it is committed, and `done` is told about it all the same.
"""

import asyncio
import contextlib
import math
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from letterlock_gateway.spool.changes import Change, Insert
from letterlock_gateway.spool.failures import SpoolClosed, SpoolFailed

# Bounds of one transaction, so that the first caller in it does not wait for ever.
_MAX_CHANGES: Final = 500
_MAX_BYTES: Final = 32 << 20
# Seconds that the first of a transaction waits at most for others while the loop has work: a transaction costs a sync,
# and a dozen pages whether it brings one change or ten. With 20 clients it brings five.
_PATIENCE: Final = 0.02
# A turn of the loop in which nothing came in takes no longer than so many times the shortest one that was seen. With
# uvloop: 1.6 to 4 us where nothing came, 20 and more with a single command, half of a millisecond among 20 clients.
_QUIET: Final = 8
# The shortest turn grows by this where a change has waited for nobody: a machine can become slower than it once was.
_GROWTH: Final = 1.05


type Done = Callable[[Change, BaseException | None], None]
type _Entry = tuple[Change, asyncio.Future[None]]


class Writer:
    """The thread. `submit` and `close` are called on its event loop."""

    def __init__(self, connection: sqlite3.Connection, done: Done, loop: asyncio.AbstractEventLoop) -> None:
        """`done` is called on the loop for every change, just before its future is resolved."""
        self._connection = connection
        self._done = done
        self._loop = loop
        self._gathered: deque[_Entry] = deque()
        self._busy = False
        """Changes are being gathered for the thread, or it is at a transaction."""
        self._since = self._turn = 0.0
        """When the first of them came, and when the loop's last turn was. `time.monotonic`."""
        self._shortest = math.inf
        """Of all turns, seconds."""
        self._queue: queue.SimpleQueue[list[_Entry] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    def submit(self, change: Change) -> asyncio.Future[None]:
        """Take a change. The future raises SpoolFailed where it could not be committed."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._closed:
            future.set_exception(SpoolClosed("the spool is closed"))
            return future
        if not self._gathered:
            self._since = time.monotonic()
        self._gathered.append((change, future))
        if not self._busy:
            self._gather()
        return future

    async def close(self) -> None:
        """Commit what was submitted and end the thread."""
        if not self._closed:
            self._closed = True
            while self._gathered:
                self._queue.put(self._next())
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # On the loop

    def _gather(self) -> None:
        """Let the loop go on with what it has to do: that may bring more changes."""
        self._busy = True
        self._turn = time.monotonic()
        self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Hand over, unless the loop's last turn brought work, and the first change can wait."""
        if not self._gathered:  # closed meanwhile
            return
        now = time.monotonic()
        took, self._turn = now - self._turn, now
        self._shortest = min(self._shortest, took)
        quiet, late = took <= _QUIET * self._shortest, now - self._since >= _PATIENCE
        if late and not quiet and len(self._gathered) == 1:
            self._shortest *= _GROWTH
        if quiet or late or len(self._gathered) >= _MAX_CHANGES:
            self._queue.put(self._next())
        else:
            self._loop.call_soon(self._look)

    def _next(self) -> list[_Entry]:
        """What goes into the next transaction, at least one change."""
        entries: list[_Entry] = []
        size = 0
        while self._gathered and len(entries) < _MAX_CHANGES and size < _MAX_BYTES:
            entries.append(self._gathered.popleft())
            change = entries[-1][0]
            size += len(change.message.body) if isinstance(change, Insert) else 0
        return entries

    def _resolve(self, entries: list[_Entry], outcomes: list[BaseException | None]) -> None:
        self._busy = False
        if self._gathered:
            self._gather()
        for (change, future), problem in zip(entries, outcomes, strict=True):
            self._done(change, problem)
            if future.done():  # its caller was cancelled
                continue
            if problem is None:
                future.set_result(None)
            else:
                future.set_exception(problem)

    # In the thread

    def _run(self) -> None:
        while (entries := self._queue.get()) is not None:
            outcomes = self._commit(entries)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._resolve, entries, outcomes)

    def _commit(self, entries: list[_Entry]) -> list[BaseException | None]:
        """Commit all together; where that fails, one by one, so that one bad change harms nobody else."""
        problem = self._transaction([change for change, _ in entries])
        if problem is None or len(entries) == 1:
            return [problem] * len(entries)
        return [self._transaction([change]) for change, _ in entries]

    def _transaction(self, changes: list[Change]) -> BaseException | None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for change in changes:
                change.apply(self._connection)
            self._connection.execute("COMMIT")
        except Exception as problem:  # noqa: BLE001 - whatever it is, the caller must hear of it and the thread must live on
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            failed = SpoolFailed(f"{type(problem).__name__}: {problem}")
            failed.__cause__ = problem
            return failed
        return None
