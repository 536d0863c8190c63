"""Notices that the wall clock was set: queue times are wall-clock times, since they outlive the process. Pure.

Called by `delivery` in every round.
"""

from typing import Final

# Seconds within which wall clock and steady clock may differ from one look to the next: more than any slewing.
_TOLERANCE: Final = 5.0


class Clocks:
    """Compares the wall clock with one that nobody sets."""

    def __init__(self, wall: float, steady: float) -> None:
        self._difference = wall - steady

    def jumped(self, wall: float, steady: float) -> float:
        """By how many seconds the wall clock was set since the last call; 0: it was not."""
        jump = wall - steady - self._difference
        self._difference = wall - steady
        return jump if abs(jump) > _TOLERANCE else 0.0
