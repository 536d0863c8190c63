"""When a deferred recipient is tried again, and when its time is up (D15). Pure.

Called by `settling` after every attempt that came to nothing.
"""

from typing import Final

from letterlock_api.snapshot import RetrySchedule

# So that what was deferred together does not come back together.
JITTER: Final = 0.1
# 2 ** 32 times any interval is longer than any maximum.
_MAX_DOUBLINGS: Final = 32


def next_attempt(
    schedule: RetrySchedule, *, attempts: int, queued_at: float, now: float, jitter: float
) -> float | None:
    """When to try again, Unix seconds; None: the time is up.

    `attempts` were made, the one that just failed included. The first wait is `schedule.initial`, each later
    one twice as long, up to `schedule.max`; `jitter` from -1 to 1 moves it by up to 10 %. The last attempt
    falls on the end of `schedule.give_up_after`.
    """
    end = queued_at + schedule.give_up_after
    if attempts >= schedule.attempts or now >= end:
        return None
    doubled = schedule.initial * 2.0 ** min(max(attempts - 1, 0), _MAX_DOUBLINGS)
    wait = min(doubled, schedule.max) * (1 + JITTER * jitter)
    return min(now + wait, end)
