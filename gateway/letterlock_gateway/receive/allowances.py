"""What a client may ask for before it has to wait until others had their turn. Pure; `connection` has one for each.

Work is counted in octets, and so are commands.
"""

from typing import Final

# A command costs as much as so many octets of text (measured: 20 to 60 µs).
COMMAND: Final = 1024
# What a client may ask for at once, and how much more each second, without standing in line: an honest session with a
# small message fits, and a connection that sends them one after the other may send some hundred a second.
AT_ONCE: Final = 16 * 1024
A_SECOND: Final = 1 << 20
_FULL: Final = float(AT_ONCE)


class Allowance:
    """What one client may still ask for before it stands in line."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = _FULL
        self._at = 0.0

    def spend(self, now: float, work: int) -> bool:
        """It asked for `work` (octets) at `now` (seconds). Whether that was too much: the next has to wait."""
        self._left = min(_FULL, self._left + (now - self._at) * A_SECOND) - work
        self._at = now
        if self._left >= 0:
            return False
        self._left = 0.0
        return True
