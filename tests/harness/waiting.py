"""Polls with a deadline: the only way in which tests wait."""

import time
from collections.abc import Callable


def until[Value](
    observe: Callable[[], Value | None], *, seconds: float = 30, what: str = "", every: float = 0.1
) -> Value:
    """What `observe` gives as soon as that is neither None nor False nor empty.

    Raises TimeoutError that names `what` and the last observation.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = observe()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what or observe}; last seen: {seen!r}")
        time.sleep(every)
