"""Limits of listeners and policies: connections per listener and host, recipients per hour and host.

They hold for the member: what is counted is in `counters`, which its workers share. Octets held for messages that are
coming in are a worker's own. A host is told by its address as text (`host`).
"""

import ipaddress
from collections.abc import Callable
from typing import Final

from letterlock_gateway.counters import Tally
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.access import Address
from letterlock_gateway.receive.replies import Reply

# What one subscriber gets at least (RFC 6177 section 2): it can take another of these addresses for each connection.
_ONE_HOST: Final = 64
_HOUR: Final = 3600.0
# A bound of what messages that are coming in may occupy in memory together. They go to disk as they come, some
# 96 KiB each stay behind, so this counts only where the disk does not keep up.
MAX_BUFFERED: Final = 128 << 20


def host(address: Address, *, relays: bool) -> str:
    """What a client at `address` is counted as (docs/decisions/0045-one-host-of-ipv6.md).

    `relays`: its policy takes mail from it for anybody. Such clients are the administrator's own, and pods of one node
    share a network.
    """
    if relays or address.version == 4 or not address.is_global:
        return str(address)
    return str(ipaddress.ip_network((address, _ONE_HOST), strict=False))


class Limits:
    """See the module."""

    def __init__(self, clock: Callable[[], float], tally: Tally | None = None) -> None:
        """`clock` gives Unix seconds; without `tally` nobody else counts."""
        self._clock = clock
        self._tally = tally or Tally.alone(clock)
        self.buffered = 0
        """Octets in memory of messages that are coming in."""

    def enter(self, listener: str, host: str, *, most: int, most_of_host: int) -> Reply | None:
        """A connection begins, and counts until `leave`; or the refusal: there are enough, and it does not count."""
        whole, one = self._keys(listener, host)
        if not self._tally.take(whole, 1, most):
            return replies.TOO_MANY_CONNECTIONS
        if not self._tally.take(one, 1, most_of_host):
            self._tally.add(whole, -1)
            return replies.TOO_MANY_FROM_HOST
        return None

    def wait(self, listener: str, most: int) -> Reply | None:
        """A connection begins to wait for its names, and counts until `waited`; or the refusal.

        It has not entered yet: without a bound, a name server that is slow would let any number of them pile up.
        """
        if self._tally.take(self._tally.key("waiting", listener), 1, most):
            return None
        return replies.TOO_MANY_CONNECTIONS

    def waited(self, listener: str) -> None:
        """A connection that had waited for its names does so no more."""
        self._tally.add(self._tally.key("waiting", listener), -1)

    def leave(self, listener: str, host: str) -> None:
        """A connection that had entered ends."""
        for key in self._keys(listener, host):
            self._tally.add(key, -1)

    def connections(self, listener: str, host: str | None = None) -> int:
        """Connections of the member to `listener`, or only those of `host`."""
        whole, one = self._keys(listener, host or "")
        return self._tally.total(whole if host is None else one)

    def held(self, octets: int) -> None:
        """Messages that are coming in occupy so many octets of memory more (negative: less)."""
        self.buffered += octets

    def take_recipient(self, host: str, per_hour: int | None) -> bool:
        """Count a recipient of `host`; False.

        It had its number for this hour, and the recipient is not counted. The hour begins with its first recipient.
        """
        if per_hour is None:
            return True
        return self._tally.take(self._tally.key("recipients", host), 1, per_hour, self._clock() + _HOUR)

    def _keys(self, listener: str, host: str) -> tuple[int, int]:
        return self._tally.key("listener", listener), self._tally.key("host", listener, host)


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
