"""Name look-ups of deliveries: MX, addresses and reverse names from DNS; hosts of routes as the system does.

Used by `routing` and `checks`. The only module here that knows dnspython, whose exceptions end here.
"""

import asyncio
import ipaddress
import random
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Literal

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver
import dns.reversename

from letterlock_gateway.deliver.nexthops import NotNow, Undeliverable

AddressFamily = Literal["Any", "PreferIPv4", "PreferIPv6", "IPv4", "IPv6"]
# For one look-up with all its retries.
_SECONDS: Final = 10.0
_CACHED: Final = 10_000
# getaddrinfo blocks, and a slow one must not hold up what else uses the loop's own threads.
_THREADS: Final = ThreadPoolExecutor(16, thread_name_prefix="getaddrinfo")
# Texts that no query can carry.
_NO_NAMES: Final = (
    dns.name.EmptyLabel,
    dns.name.LabelTooLong,
    dns.name.NameTooLong,
    dns.name.BadEscape,
    dns.name.IDNAException,
)
# Of the names in a reverse zone, which its owner may fill at will.
_MAX_REVERSE: Final = 5


class Lookups:
    """One set of resolvers with its cache, and the system's for routes."""

    def __init__(self, resolvers: Sequence[str] = (), family: AddressFamily = "Any") -> None:
        """`resolvers`: `address:port` of name servers; none: the system's."""
        self.resolvers = tuple(resolvers)
        self.family: AddressFamily = family
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """Preferences and names of the MX records; empty: there are none.

        Raises Undeliverable where the domain does not exist, NotNow where that cannot be found out.
        """
        answers = await self._resolve(domain, "MX")
        return [(int(answer.preference), str(answer.exchange)) for answer in answers]

    async def addresses(self, name: str) -> list[str]:
        """Addresses of an MX host, in the order to try. Raises Undeliverable (there are none), NotNow."""
        wanted = {"IPv4": ["A"], "IPv6": ["AAAA"]}.get(self.family, ["A", "AAAA"])
        found: list[str] = []
        problems: list[NotNow | Undeliverable] = []
        for kind in wanted:
            try:
                found += [str(answer) for answer in await self._resolve(name, kind)]
            except (NotNow, Undeliverable) as problem:
                problems.append(problem)
        if found:
            return in_order(found, self.family)
        for problem in sorted(problems, key=lambda one: isinstance(one, Undeliverable)):
            raise problem
        raise Undeliverable("5.4.4", f"{name} has no address")

    async def host_addresses(self, host: str) -> list[str]:
        """Addresses of a host that an administrator wrote. Raises NotNow.

        As the system resolves it (hosts file, search domains, cluster DNS); what that does not know is asked of
        the resolvers, where such are set.
        """
        try:
            return await self._system_addresses(host)
        except NotNow:
            if not self.resolvers:
                raise
        try:
            return await self.addresses(host)
        except Undeliverable as problem:
            # What an administrator wrote, an administrator will mend.
            raise NotNow(str(problem), "4.4.4") from problem

    async def _system_addresses(self, host: str) -> list[str]:
        family = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}.get(self.family, socket.AF_UNSPEC)
        look_up = partial(socket.getaddrinfo, host, None, family=family, type=socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(_SECONDS):
                found = await asyncio.get_running_loop().run_in_executor(_THREADS, look_up)
        except TimeoutError:
            raise NotNow(f"{host} was not resolved within {_SECONDS:g} s") from None
        except (OSError, UnicodeError) as error:
            raise NotNow(f"{host} cannot be resolved: {error}", "4.4.4") from error
        return in_order(list(dict.fromkeys(str(entry[4][0]) for entry in found)), self.family)

    async def reverse_names(self, address: str) -> list[str]:
        """The names of `address` that resolve back to it; empty also where they cannot be found out."""
        try:
            pointers = await self._resolve(str(dns.reversename.from_address(address)), "PTR")
        except (NotNow, Undeliverable, ValueError, dns.exception.SyntaxError):
            return []
        names = [str(pointer.target).rstrip(".").lower() for pointer in pointers[:_MAX_REVERSE]]
        return [name for name in names if await self.leads_to(name, address)]

    async def leads_to(self, name: str, address: str) -> bool:
        """Whether `name` resolves to `address`."""
        wanted = ipaddress.ip_address(address)
        try:
            answers = await self._resolve(name, "A" if wanted.version == 4 else "AAAA")
        except (NotNow, Undeliverable):
            return False
        return any(ipaddress.ip_address(str(answer)) == wanted for answer in answers)

    async def _resolve(self, name: str, kind: str) -> list[Any]:
        """The records; empty: there are none of this kind."""
        try:
            answers: Any = await self._dns().resolve(name, kind, search=False)
            return list(answers)
        except dns.resolver.NoAnswer:
            return []
        except dns.resolver.NXDOMAIN:
            raise Undeliverable("5.1.2", f"{name} does not exist (NXDOMAIN)") from None
        except _NO_NAMES as error:
            raise Undeliverable("5.1.2", f"{name} is no domain name: {error}") from error
        except (dns.exception.DNSException, OSError, ValueError) as error:
            # DNSException covers time-outs and SERVFAIL of every server.
            raise NotNow(f"{kind} look-up of {name} failed: {error}") from error

    def _dns(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            resolver = dns.asyncresolver.Resolver(configure=not self.resolvers)
            if self.resolvers:
                resolver.nameservers = [_nameserver(one) for one in self.resolvers]
            resolver.lifetime = _SECONDS
            resolver.cache = dns.resolver.LRUCache(_CACHED)
            self._resolver = resolver
        return self._resolver


def in_order(addresses: Sequence[str], family: AddressFamily) -> list[str]:
    """`addresses` as the family setting wants them; within one family in random order, so that load spreads."""
    shuffled = random.sample(list(addresses), len(addresses))
    if family == "PreferIPv4":
        return sorted(shuffled, key=lambda one: ":" in one)
    if family == "PreferIPv6":
        return sorted(shuffled, key=lambda one: ":" not in one)
    wanted = {"IPv4": False, "IPv6": True}.get(family)
    return [one for one in shuffled if wanted is None or (":" in one) == wanted]


def is_local(address: str) -> bool:
    """Whether `address` is one of this machine's: then, and only then, a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    if text.count(":") == 1 or text.startswith("["):
        host, _, port = text.rpartition(":")
        return dns.nameserver.Do53Nameserver(host.strip("[]"), int(port))
    return dns.nameserver.Do53Nameserver(text, 53)
