"""Counters of one worker, for the limits of listeners and policies. Pure.

Connections per listener and host, recipients per hour and host, octets held for messages that are coming in.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

_HOUR: Final = 3600.0
# A bound of what messages that are coming in may occupy together, so that many large ones cannot exhaust the
# worker.
MAX_BUFFERED: Final = 512 << 20


class Limits:
    """The counters. A host is told by its address as text."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_listener: Counter[str] = Counter()
        self._by_host: Counter[tuple[str, str]] = Counter()
        # (start of the hour, recipients in it) by host.
        self._recipients: dict[str, tuple[float, int]] = {}
        self.buffered = 0
        """Octets of messages that are coming in or being stored."""

    def enter(self, listener: str, host: str) -> None:
        """A connection begins."""
        self._by_listener[listener] += 1
        self._by_host[listener, host] += 1

    def leave(self, listener: str, host: str) -> None:
        """A connection ends."""
        self._by_listener[listener] -= 1
        self._by_host[listener, host] -= 1
        if self._by_host[listener, host] <= 0:  # hosts come and go; listeners are few
            del self._by_host[listener, host]

    def connections(self, listener: str, host: str | None = None) -> int:
        """Connections to `listener`, or only those of `host`."""
        return self._by_listener[listener] if host is None else self._by_host[listener, host]

    def take_recipient(self, host: str, per_hour: int | None) -> bool:
        """Count a recipient of `host`; False.

        It had its number for this hour, and the recipient is not counted.
        """
        if per_hour is None:
            return True
        now = self._clock()
        start, count = self._recipients.get(host, (now, 0))
        if now - start >= _HOUR:
            start, count = now, 0
        if count >= per_hour:
            return False
        self._recipients[host] = (start, count + 1)
        return True

    def expire(self) -> None:
        """Forget hosts whose hour is over."""
        now = self._clock()
        for host in [host for host, (start, _) in self._recipients.items() if now - start >= _HOUR]:
            del self._recipients[host]


class Quota:
    """One connection's view of the counters, for its session."""

    __slots__ = ("_host", "_limits")

    def __init__(self, limits: Limits, host: str) -> None:
        self._limits = limits
        self._host = host

    def take_recipient(self, per_hour: int | None) -> bool:
        """See `Limits.take_recipient`."""
        return self._limits.take_recipient(self._host, per_hour)

    def has_room(self) -> bool:
        """Whether another message may begin to come in."""
        return self._limits.buffered < MAX_BUFFERED
