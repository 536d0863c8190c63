"""Finds where mail for a domain goes: brings policy and look-ups together, for `lanes`' sessions.

`nexthops` orders, `lookups` asks; here is only which of them is asked.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from letterlock_gateway import values
from letterlock_gateway.deliver import nexthops
from letterlock_gateway.deliver.lookups import Lookups, is_local
from letterlock_gateway.deliver.nexthops import NextHost, NotNow, Ourselves, Undeliverable
from letterlock_gateway.deliver.terms import Terms

# RFC 5321 section 5.1 asks for at least two addresses; a domain with hundreds of them shall not keep us for hours.
# Of MX hosts only: routes are the administrator's.
MAX_TARGETS: Final = 10
# Destinations with routes that are remembered. Counted together they would not take turns: of two domains whose mail
# comes alternately, each would always get the same host.
_MOST_TURNS: Final = 10_000
_turns: Final[dict[str, int]] = {}


@values.value
class Target:
    """One address of one next hop."""

    host: NextHost
    address: str


async def hosts(terms: Terms, lookups: Lookups) -> list[NextHost]:
    """The next hops of the terms' domain in order. Raises Undeliverable, NotNow."""
    domain, ourselves = terms.domain, terms.ourselves
    if terms.policy.routes:
        return nexthops.by_route(terms.policy.routes, _turn(domain))
    if not domain:
        raise Undeliverable("5.1.2", "the address has no domain")
    literal = nexthops.by_literal(domain)
    if literal is not None:
        if ourselves.listens_on(literal.address) and is_local(literal.address):
            raise Undeliverable(
                "5.4.6", f"mail for {domain} would come back to this gateway (its own address)"
            )
        return [literal]
    records = await lookups.mx(domain)
    own = await _own(domain, [name.rstrip(".").lower() for _, name in records], ourselves, lookups)
    return nexthops.by_mx(domain, records, own.__contains__)


def _turn(domain: str) -> int:
    """How often mail for `domain` has set out so far."""
    if len(_turns) >= _MOST_TURNS:
        _turns.clear()
    _turns[domain] = turn = _turns.get(domain, -1) + 1
    return turn


async def _own(domain: str, names: Sequence[str], ourselves: Ourselves, lookups: Lookups) -> frozenset[str]:
    """Which of the MX hosts `names` (none: the domain itself) are this gateway, by name or by address."""
    named = {name for name in names if ourselves.has_name(name)}
    if not ourselves.listening:
        return frozenset(named)

    async def leads_here(name: str) -> bool:
        try:
            found = await lookups.addresses(name)
        except (NotNow, Undeliverable):
            return False
        return any(ourselves.listens_on(address) and is_local(address) for address in found)

    others = [name for name in dict.fromkeys(names or [domain]) if name and name not in named]
    others = others[: nexthops.MAX_HOSTS]
    answers = await asyncio.gather(*(leads_here(name) for name in others))
    return frozenset(named | {name for name, ours in zip(others, answers, strict=True) if ours})


async def targets(host: NextHost, lookups: Lookups) -> list[Target]:
    """The addresses of one next hop, in order. Raises Undeliverable, NotNow."""
    if host.address:
        return [Target(host, host.address)]
    if host.by == "Route":
        found = await lookups.host_addresses(host.name)
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
        records = nexthops.by_mx(domain, await lookups.mx(domain))
    except (NotNow, Undeliverable):
        return []
    return [host.name for host in records[:MAX_TARGETS] if await lookups.leads_to(host.name, target.address)]
