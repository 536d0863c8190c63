"""Finds where mail for a domain goes: brings policy and look-ups together, for `lanes`' sessions.

`nexthops` orders, `lookups` asks; here is only which of them is asked.
"""

from dataclasses import dataclass
from itertools import count
from typing import Final

from letterlock_api.snapshot import Destination
from letterlock_gateway.deliver import nexthops
from letterlock_gateway.deliver.lookups import Lookups
from letterlock_gateway.deliver.nexthops import NextHost, NotNow, Undeliverable

# RFC 5321 section 5.1 asks for at least two addresses; a domain with hundreds of them shall not keep us for hours.
MAX_TARGETS: Final = 10
_TURNS: Final = count()


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one next hop."""

    host: NextHost
    address: str


async def hosts(domain: str, policy: Destination, own_name: str, lookups: Lookups) -> list[NextHost]:
    """The next hops in order. Raises Undeliverable, NotNow."""
    if policy.routes:
        return nexthops.by_route(policy.routes, next(_TURNS))
    if not domain:
        raise Undeliverable("5.1.2", "the address has no domain")
    literal = nexthops.by_literal(domain)
    if literal is not None:
        return [literal]
    return nexthops.by_mx(domain, await lookups.mx(domain), own_name)


async def targets(host: NextHost, lookups: Lookups) -> list[Target]:
    """The addresses of one next hop, in order. Raises Undeliverable, NotNow."""
    if host.auth:
        raise NotNow(f"{host.label} wants a sign-in, which is not available yet", "4.7.0")
    if host.address:
        return [Target(host, host.address)]
    if host.by == "Route":
        found = await lookups.system_addresses(host.name)
    else:
        found = await lookups.addresses(host.name)
    return [Target(host, address) for address in found]


async def mx_names(domain: str, target: Target, lookups: Lookups) -> list[str]:
    """Names of the MX host that `target` is, for RequiredVerifyHostedDomains.

    Of a route that is an address: those MX hosts of `domain` that have this address.
    """
    if target.host.name:
        return [target.host.name] if target.host.by == "MX" else []
    try:
        records = nexthops.by_mx(domain, await lookups.mx(domain), "")
    except (NotNow, Undeliverable):
        return []
    return [host.name for host in records[:MAX_TARGETS] if await lookups.leads_to(host.name, target.address)]
