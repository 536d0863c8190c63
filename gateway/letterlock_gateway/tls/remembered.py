"""What need not be worked out again: verdicts on chains that were found good, and the names in them.

Verifying a chain costs about as much as the handshake it came with, and the same hosts show the same chain for
months. Called by `verify`. Only what was found good is remembered: a failure is looked at anew each time, so that
what is told of it is always the whole truth of now.
"""

from collections import OrderedDict
from datetime import datetime

from letterlock_gateway import values


@values.value
class Good:
    """A chain that was found good."""

    detail: str
    """For people: by what."""
    since: datetime
    until: datetime
    """From `since` until before `until` (aware) all certificates of the built chain are within their dates."""


class Remembered[Key, Value]:
    """The values that were asked for last, up to so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The value; None: not known, or forgotten."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Remember it; what has not been asked for the longest is forgotten."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)
