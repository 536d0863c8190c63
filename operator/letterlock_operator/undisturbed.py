"""No search for cyclic garbage while a decision is made.

A decision about 10,000 resources makes some hundred thousand objects, nearly all of which stay, and each search goes
over all that there are: a third of the time of a first decision went there. What is not needed any more still goes by
its count of references; circles wait a second or two.
"""

import contextlib
import gc
import threading
from collections.abc import Generator

_lock = threading.Lock()
_inside = 0


@contextlib.contextmanager
def undisturbed() -> Generator[None]:
    """Meanwhile nothing is searched, in no thread. May be used by several threads at once."""
    global _inside  # noqa: PLW0603 - as the collector itself: one of the process
    with _lock:
        _inside += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                gc.enable()
