"""The operator as it is, with a probe in its event loop: how long each callback keeps all others waiting.

Run as a program in place of `letterlock_operator`, by `crowds`. What was seen goes to the file that LOOP_PROBE names,
once a second.
"""

import asyncio
import json
import os
import runpy
import threading
import time
from asyncio import events
from pathlib import Path
from typing import Any, Final

# The slowest callbacks that are told of.
_TOLD: Final = 5
_EVERY: Final = 1.0  # seconds


class Probe:
    """Times the callbacks of the main thread's loop."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._written = time.monotonic()
        self._slowest: list[tuple[float, float, str]] = []

    def install(self) -> None:
        """Time every callback from now on."""
        run: Any = events.Handle._run  # pyright: ignore[reportPrivateUsage] - where the loop calls them

        def timed(handle: asyncio.Handle) -> None:
            if threading.current_thread() is not threading.main_thread():
                run(handle)
                return
            began, worked = time.monotonic(), time.thread_time()
            run(handle)
            self._took(time.monotonic() - began, time.thread_time() - worked, handle)

        setattr(events.Handle, "_run", timed)  # noqa: B010 - the checker need not know

    def _took(self, seconds: float, worked: float, handle: asyncio.Handle) -> None:
        if len(self._slowest) < _TOLD or worked > self._slowest[-1][1]:
            self._slowest.append((seconds, worked, repr(handle)[:300]))
            self._slowest.sort(key=lambda one: -one[1])
            del self._slowest[_TOLD:]
        if (now := time.monotonic()) - self._written > _EVERY:
            self._written = now
            scratch = self._file.with_suffix(".new")
            scratch.write_text(json.dumps(self._slowest))
            scratch.replace(self._file)


if __name__ == "__main__":
    Probe(Path(os.environ["LOOP_PROBE"])).install()
    runpy.run_module("letterlock_operator", run_name="__main__", alter_sys=True)
