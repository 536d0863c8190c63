"""Recipients per period and domain (D14), over all workers of the member. Called by `session` before each transaction.

A period is counted in sixteenths, and a sixteenth counts until the last of it is a period ago: never too much, and at
most a sixteenth too slow. What was sent under another period is not counted.
"""

import math
from typing import Final

from letterlock_gateway.counters import Tally

_PARTS: Final = 16
# Seconds until the next try where two workers wanted the same last place and neither got it; a little more for the
# next worker, or they would meet again.
_AGAIN: Final = 0.05


class Rates:
    """What was sent in the running periods."""

    def __init__(self, tally: Tally | None = None) -> None:
        """Without `tally` nobody else counts."""
        self._tally = tally or Tally.alone()

    def take(self, domain: str, recipients: int, *, count: int, period: float, now: float) -> float:
        """0: so many recipients may go now, and count from now on. Else: when to ask again, Unix seconds.

        A message with more recipients than `count` goes when nothing else does.
        """
        tally = self._tally
        width = period / _PARTS
        last = math.floor(now / width)
        first = last - _PARTS
        keys = [tally.key("rate", domain, str(period), str(part)) for part in range(first, last + 1)]
        counts = [tally.total(key) for key in keys]
        total = sum(counts)
        if total and total + recipients > count:
            return _room_at(counts, recipients, count, first, width) + period
        tally.add(keys[-1], recipients, math.ceil(now + period + width) + 1)
        after = total - counts[-1] + tally.total(keys[-1])
        if after > count and after > recipients:
            tally.add(keys[-1], -recipients)
            return now + _AGAIN * (tally.number + 1)
        return 0.0


def _room_at(counts: list[int], recipients: int, count: int, first: int, width: float) -> float:
    """End of the part with which enough of what was sent is over."""
    left = sum(counts)
    for number, part in enumerate(counts, first):
        left -= part
        if left == 0 or left + recipients <= count:
            return (number + 1) * width
    raise AssertionError("nothing is left after the last part")
