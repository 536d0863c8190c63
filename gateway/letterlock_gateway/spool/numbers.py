"""Numbers of messages and recipients: each is used once, whatever was pruned, and by one worker of a member."""

from collections.abc import Sequence
from typing import Final

# Numbers of one member's workers never meet: the last three digits are the worker's, so that a log line with
# MID 7002 can only be the seventh message of worker 2. More than a thousand workers in one member are not to
# be expected.
NUMBER_STEP: Final = 1000


class Numbers:
    """What one worker numbers with."""

    def __init__(self, worker: int, mid: int, rid: int) -> None:
        """`mid` and `rid`: the highest that were ever used in its spool."""
        self._worker = worker
        self._mid, self._rid = self._after(mid), self._after(rid)

    def mid(self) -> int:
        """A new message's."""
        self._mid += NUMBER_STEP
        return self._mid - NUMBER_STEP

    def rids(self, recipients: Sequence[object]) -> range:
        """Its recipients', in their order."""
        first = self._rid
        self._rid += NUMBER_STEP * len(recipients)
        return range(first, self._rid, NUMBER_STEP)

    def _after(self, highest: int) -> int:
        return (highest // NUMBER_STEP + 1) * NUMBER_STEP + self._worker
