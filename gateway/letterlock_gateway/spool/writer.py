"""Group commit: one thread that writes.

Whatever has come in while the last sync ran goes into one transaction with one sync; where the last one brought
several changes, what comes in the next milliseconds too. Each change has a future, which is resolved on the event
loop after its commit. A caller that was cancelled meanwhile is no reason to leave a change out: once it is queued, it
is committed, and `done` is told about it all the same.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Final

from letterlock_gateway.spool.changes import Change, Insert
from letterlock_gateway.spool.failures import SpoolClosed, SpoolFailed

# Bounds of one transaction, so that the first caller in it does not wait for ever.
_MAX_CHANGES: Final = 500
_MAX_BYTES: Final = 32 << 20
# A transaction costs a sync, and a dozen pages whether it brings one change or ten. After one with so many changes
# the next waits for company, as long as there comes some, and no longer than so many looks of so many seconds: with
# 20 clients a message takes a third less processor time, and gets its 250 earlier. Who sends alone never waits.
_SEVERAL: Final = 3
_LOOKS: Final = 4
_LOOK: Final = 0.003


type Done = Callable[[Change, BaseException | None], None]
type _Entry = tuple[Change, asyncio.Future[None]]


class Writer:
    """The thread. `submit` and `close` are called on its event loop."""

    def __init__(self, connection: sqlite3.Connection, done: Done, loop: asyncio.AbstractEventLoop) -> None:
        """`done` is called on the loop for every change, just before its future is resolved."""
        self._connection = connection
        self._done = done
        self._loop = loop
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    def submit(self, change: Change) -> asyncio.Future[None]:
        """Queue a change. The future raises SpoolFailed where it could not be committed."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._closed:
            future.set_exception(SpoolClosed("the spool is closed"))
        else:
            self._queue.put((change, future))
        return future

    async def close(self) -> None:
        """Commit what is queued and end the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        ended, several = False, False
        while not ended:
            entries, ended = self._gather(company=several)
            several = len(entries) >= _SEVERAL
            if entries:
                outcomes = self._commit(entries)
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._resolve, entries, outcomes)

    def _gather(self, *, company: bool) -> tuple[list[_Entry], bool]:
        """Wait for one change (and for `company`), and take all that are there. The second value: it is the end."""
        entries: list[_Entry] = []
        size = 0
        entry = self._queue.get()
        if company and entry is not None:
            self._wait_for_company()
        while entry is not None:
            entries.append(entry)
            if isinstance(entry[0], Insert):
                size += len(entry[0].message.body)
            if len(entries) >= _MAX_CHANGES or size >= _MAX_BYTES:
                return entries, False
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return entries, False
        return entries, True

    def _wait_for_company(self) -> None:
        here = -1
        for _ in range(_LOOKS):
            if self._closed or self._queue.qsize() == here:
                return
            here = self._queue.qsize()
            time.sleep(_LOOK)

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

    def _resolve(self, entries: list[_Entry], outcomes: list[BaseException | None]) -> None:
        for (change, future), problem in zip(entries, outcomes, strict=True):
            self._done(change, problem)
            if future.done():  # its caller was cancelled
                continue
            if problem is None:
                future.set_result(None)
            else:
                future.set_exception(problem)
