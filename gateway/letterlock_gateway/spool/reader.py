"""Look-ups, in a thread of their own: the loop does not wait for the disk. Used by the spool alone."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate

from letterlock_gateway.spool.failures import SpoolFailed


class Reader:
    """The thread, and the connection that it reads with."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool-reader")

    async def ask[**Rest, Value](
        self,
        read: Callable[Concatenate[sqlite3.Connection, Rest], Value],
        *args: Rest.args,
        **kwargs: Rest.kwargs,
    ) -> Value:
        """What `read` finds (`reads`). Raises SpoolFailed."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: read(self._connection, *args, **kwargs))
        except sqlite3.Error as problem:
            raise SpoolFailed(f"{type(problem).__name__}: {problem}") from problem

    def close(self) -> None:
        """End the thread, and close its connection. Blocking."""
        self._thread.shutdown()
        self._connection.close()
