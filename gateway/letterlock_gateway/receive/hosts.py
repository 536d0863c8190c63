"""Names of clients: reverse look-up, and only those names that resolve back to the address (L7).

Used by `reception` where a host access table has names. Time-outs are short: a client whose name server does
not answer has no names, and falls to a later group of the table, never to an earlier one.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import dns.reversename

from letterlock_gateway.receive.access import Address

# For all look-ups of one client together; the greeting waits for them.
_SECONDS: Final = 4.0
# Of the names in a reverse zone that anyone may fill.
_MAX_NAMES: Final = 5


class Hosts:
    """Looks names up, with a cache."""

    def __init__(self, resolvers: Sequence[str]) -> None:
        """`resolvers`: `host:port` of name servers, addresses only; none: the system's."""
        self._resolver = dns.asyncresolver.Resolver(configure=not resolvers)
        self._resolver.lifetime = _SECONDS / 2
        self._resolver.timeout = _SECONDS / 4
        self._resolver.cache = dns.resolver.LRUCache(10_000)
        if resolvers:
            self._resolver.nameservers = [_nameserver(one) for one in resolvers]

    async def names_of(self, address: Address) -> list[str]:
        """The verified names of `address`, lower case; empty: none, or not to be had in time."""
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._names_of(address)
        except TimeoutError:
            return []

    async def _names_of(self, address: Address) -> list[str]:
        try:
            pointers = await self._resolver.resolve(dns.reversename.from_address(str(address)), "PTR")
        except (dns.exception.DNSException, OSError):
            return []
        names = [
            str(pointer.target).rstrip(".").lower()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
            for pointer in list(pointers)[:_MAX_NAMES]
        ]
        return [name for name in names if await self._leads_to(name, address)]

    async def _leads_to(self, name: str, address: Address) -> bool:
        kind = "A" if address.version == 4 else "AAAA"
        try:
            answers = await self._resolver.resolve(name, kind, search=False)
        except (dns.exception.DNSException, OSError):
            return False
        return any(ipaddress.ip_address(str(answer)) == address for answer in answers)


def _nameserver(text: str) -> dns.nameserver.Do53Nameserver:
    host, _, port = text.rpartition(":")
    return dns.nameserver.Do53Nameserver(host.strip("[]"), int(port))
