"""What a command does while it takes long: one line on stderr, on terminals only, gone when it is done.

Called by commands around what waits for others: a cluster, members, hosts. What is over soon shows nothing.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

# Seconds: who waits for less does not ask what for.
_AFTER: Final = 0.7
_EVERY: Final = 1.0
_CLEAR: Final = "\r\x1b[K"
_showing = threading.Lock()


@contextmanager
def shown(words: str) -> Generator[None]:
    """Say `words` with the seconds that have passed, while what is inside runs. Within another one: nothing more."""
    if not _somebody_looks() or not _showing.acquire(blocking=False):
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_tell, args=(words, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _showing.release()


def _somebody_looks() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _tell(words: str, done: threading.Event) -> None:
    began = time.monotonic()
    if done.wait(_AFTER):
        return
    with contextlib.suppress(OSError):  # the terminal is gone
        while True:
            print(f"{_CLEAR}{words} … {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
            if done.wait(_EVERY):
                break
        print(_CLEAR, end="", file=sys.stderr, flush=True)
