"""Processes that make keys and open or write PKCS#12 files, so that the event loop never waits for either.

Made by `reconcile`, used by `act.keys`. They are there while there is work, and go when there has been none for a
while: an operator at rest has no idle processes.
"""

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final

# A key of 4096 bits takes seconds on a busy machine; what takes longer than this has been made to.
_LONGEST: Final = 60.0  # seconds
_IDLE: Final = 20.0  # seconds without work


class Overdue(Exception):  # noqa: N818 - says what happened
    """A piece of work was given up."""


class Makers:
    """One pool for the whole operator."""

    def __init__(self) -> None:
        self.at_a_time: Final = max(1, os.process_cpu_count() or 1)
        self._pool: ProcessPoolExecutor | None = None
        self._busy = 0
        self._ending: asyncio.TimerHandle | None = None

    async def run[**P, Value](
        self, work: Callable[P, Value], *arguments: P.args, **options: P.kwargs
    ) -> Value:
        """`work` with these arguments, in another process. Raises what it raises, and Overdue."""
        pool = self._started()
        self._busy += 1
        try:
            future = asyncio.wrap_future(pool.submit(work, *arguments, **options))
            async with asyncio.timeout(_LONGEST):
                return await future
        except BrokenProcessPool:
            self._forget(pool)  # a process was killed, for want of memory say: the next work gets a new pool
            raise
        except TimeoutError as error:
            self._kill(pool)
            raise Overdue(f"it took longer than {_LONGEST:.0f} s") from error
        finally:
            self._busy -= 1
            if not self._busy:
                self._ending = asyncio.get_running_loop().call_later(_IDLE, self.close)

    def close(self) -> None:
        """End the processes that have nothing to do."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._pool is not None and not self._busy:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._pool is None:
            # Spawned, not forked: this process has threads and open connections.
            spawning = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.at_a_time, mp_context=spawning)
        return self._pool

    def _forget(self, pool: ProcessPoolExecutor) -> None:
        if self._pool is pool:
            self._pool = None
        pool.shutdown(wait=False, cancel_futures=True)

    def _kill(self, pool: ProcessPoolExecutor) -> None:
        """End the pool with the process that does not come back; the next work gets a new one."""
        processes = list((pool._processes or {}).values())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - public from 3.14 on, as kill_workers
        self._forget(pool)
        for process in processes:
            process.kill()
