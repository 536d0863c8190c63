"""The host access table: which sender group a client belongs to (L7). Pure; names come from `hosts`.

Senders are an address, a CIDR, a range `low-high`, a partial IPv4 address (`10.1.`), a host name, `.domain`
(everything below it), or `ALL`. The first group from the top that matches wins.
"""

import ipaddress
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from letterlock_api.snapshot import AccessGroup
from letterlock_gateway import values
from letterlock_gateway.spool import domain_of

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# (low, high) as integers; IPv6 addresses are moved beyond all IPv4 ones, so that both lie on one line.
type _Range = tuple[int, int]
_IPV6_FROM: Final = 1 << 32


@values.value
class Match:
    """The group that a client belongs to."""

    group: str
    policy: str
    sender: str
    """The entry that matched."""


class NamesNeeded(Exception):  # noqa: N818 - a question, not an error
    """The client's verified names decide, and were not given."""


@lru_cache(4096)
def client_address(text: str) -> Address:
    """A peer's address; IPv4 in IPv6 clothes is IPv4, a scope is left out. Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def address_range(sender: str) -> _Range | None:
    """The addresses that `sender` stands for; None: it is not about addresses."""
    try:
        low, dash, high = sender.partition("-")
        if dash:
            pair = _number(ipaddress.ip_address(low.strip())), _number(ipaddress.ip_address(high.strip()))
            return pair if pair[0] <= pair[1] else None
        network = ipaddress.ip_network(_completed(sender), strict=False)
    except ValueError:
        return None
    return _number(network[0]), _number(network[-1])


class AccessTable:
    """The compiled table."""

    def __init__(self, groups: Sequence[AccessGroup]) -> None:
        self._groups = [_Group(group) for group in groups]

    def match(self, address: Address, names: Sequence[str] | None) -> Match | None:
        """The first group for a client; None: no group matches.

        `names`: its verified host names, lower case; None: not looked up. Raises NamesNeeded where they
        decide.
        """
        number = _number(address)
        for group in self._groups:
            sender = group.match(number, names)
            if sender is not None:
                return Match(group.name, group.policy, sender)
        return None


class Ranges:
    """A set of addresses; a look-up is one bisection."""

    def __init__(self, ranges: Sequence[_Range]) -> None:
        self._low: list[int] = []
        self._high: list[int] = []
        for low, high in sorted(ranges):
            if self._high and low <= self._high[-1]:
                self._high[-1] = max(self._high[-1], high)
            else:
                self._low.append(low)
                self._high.append(high)

    @classmethod
    def of(cls, senders: Sequence[str]) -> "Ranges":
        """Those of `senders` that are about addresses."""
        return cls([found for sender in senders if (found := address_range(sender)) is not None])

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._low, number) - 1
        return at >= 0 and number <= self._high[at]

    def holds(self, address: Address) -> bool:
        """Whether `address` is in the set."""
        return _number(address) in self


class _Group:
    def __init__(self, group: AccessGroup) -> None:
        self.name = group.name
        self.policy = group.policy
        self._all = "ALL" in group.senders
        self._ranges: list[tuple[_Range, str]] = []
        self._names: dict[str, str] = {}
        for sender in group.senders:
            found = address_range(sender)
            if found is not None:
                self._ranges.append((found, sender))
            elif sender != "ALL":
                dot = "." if sender.startswith(".") else ""
                self._names[dot + domain_of("@" + sender.strip("."))] = sender
        self._addresses = Ranges([found for found, _ in self._ranges])

    def match(self, number: int, names: Sequence[str] | None) -> str | None:
        if self._all:
            return "ALL"
        if number in self._addresses:
            return next(sender for (low, high), sender in self._ranges if low <= number <= high)
        if not self._names:
            return None
        if names is None:
            raise NamesNeeded
        for name in names:
            dot = -1
            key = name
            while True:
                if key in self._names:
                    return self._names[key]
                dot = name.find(".", dot + 1)
                if dot < 0:
                    break
                key = name[dot:]
        return None


def _number(address: Address) -> int:
    return int(address) if address.version == 4 else int(address) + _IPV6_FROM


def _completed(sender: str) -> str:
    """A partial IPv4 address (`10.1.` or `10.1`) as a network; anything else as it is."""
    parts = sender.rstrip(".").split(".")
    if "/" in sender or len(parts) > 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return sender
    return ".".join(parts + ["0"] * (4 - len(parts))) + f"/{8 * len(parts)}"
