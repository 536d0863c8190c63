"""Who may try to sign in again, and when. Pure: time is given. Used by `signing_in`.

Attempts count before they are judged, so that many at once are not more than one after the other.
"""

import ipaddress
from collections import OrderedDict, deque
from typing import Final

from letterlock_gateway.receive.access import Address

_REMEMBERED: Final = 10_000
_IPV6_NETWORK: Final = 64  # bits: one customer's; addresses in it cost nothing


class Throttle:
    """At most `most` attempts within `period` seconds for each key."""

    def __init__(self, most: int, period: float) -> None:
        self._most = most
        self._period = period
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until `key` may try; 0: now."""
        tried = self._attempts.get(key)
        if tried is None:
            return 0.0
        while tried and now - tried[0] >= self._period:
            tried.popleft()
        if not tried:
            del self._attempts[key]
            return 0.0
        return 0.0 if len(tried) < self._most else tried[0] + self._period - now

    def count(self, key: str, now: float) -> None:
        """An attempt of `key`."""
        tried = self._attempts.setdefault(key, deque(maxlen=self._most))
        tried.append(now)
        self._attempts.move_to_end(key)
        if len(self._attempts) > _REMEMBERED:
            self._attempts.popitem(last=False)

    def take_back(self, key: str) -> None:
        """The last attempt was none: whoever made it knew what to say."""
        tried = self._attempts.get(key)
        if tried:
            tried.pop()

    def forget(self, key: str) -> None:
        """It has shown who it is."""
        self._attempts.pop(key, None)


def neighbourhood(address: Address) -> str:
    """What limits count for one: an IPv4 address, an IPv6 network of 64 bits."""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))
