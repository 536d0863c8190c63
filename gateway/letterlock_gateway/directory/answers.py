"""What a directory said a while ago. Pure; `directories` asks here first."""

from collections import OrderedDict
from typing import Final

# Seconds. A recipient that was removed may still be taken for so long; one that is new is refused for good by many
# senders, so a no is soon asked again.
YES: Final = 120.0
NO: Final = 10.0
_MOST: Final = 10_000


class Answers:
    """A small cache."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    def get(self, query: str, now: float) -> bool | None:
        """What was said of `query`; None: nothing, or too long ago. `now`: seconds of a monotonic clock."""
        known = self._known.get(query)
        if known is None or known[0] <= now:
            return None
        return known[1]

    def put(self, query: str, now: float, *, known: bool) -> None:
        """Remember it."""
        self._known[query] = (now + (YES if known else NO), known)
        self._known.move_to_end(query)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
