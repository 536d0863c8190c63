"""Next hops of a domain, in the order in which they are tried: routes, MX records, or the domain itself. Pure.

`routing` brings what the name servers say. RFC 5321 section 5.1 (order, own name among the MX hosts), RFC 7505
(null MX). Look-ups that came to nothing are told apart: what is so, and what could not be found out now.
"""

import ipaddress
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from letterlock_api.snapshot import NextHop

Hosts = Literal["Route", "MX"]


class Undeliverable(Exception):  # noqa: N818 - names what is so
    """There is no next hop, and there will be none: the mail bounces. `status`: RFC 3463."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class NotNow(Exception):  # noqa: N818 - names what is so
    """Next hops could not be found out: the mail waits."""

    def __init__(self, text: str, status: str = "4.4.3") -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class NextHost:
    """A host to try."""

    name: str
    """Its DNS name; empty: it is given as an address."""
    address: str
    """The address it is given as; empty: `name` is to be resolved."""
    port: int
    by: Hosts
    implicit_tls: bool = False
    auth: bool = False
    """Whether it wants a sign-in."""

    @property
    def label(self) -> str:
        """How people call it."""
        return self.name or f"[{self.address}]"


def by_route(routes: Sequence[NextHop], turn: int) -> list[NextHost]:
    """Hosts of the administrator's routes; those of one priority are taken in turn (D13)."""
    ordered: list[NextHost] = []
    for priority in sorted({route.priority for route in routes}):
        equals = [_host(route) for route in routes if route.priority == priority]
        start = turn % len(equals)
        ordered += equals[start:] + equals[:start]
    return ordered


def by_mx(
    domain: str,
    records: Sequence[tuple[int, str]],
    own_name: str,
    shuffle: Callable[[list[str]], None] = random.shuffle,
) -> list[NextHost]:
    """Hosts of MX `records` (preference, name); equals are shuffled. No records: the domain itself.

    Raises Undeliverable for a null MX, and where this gateway is the best MX itself.
    """
    if not records:
        return [NextHost(domain, "", 25, "MX")]
    if all(name in ("", ".") for _, name in records):
        # RFC 7505 section 3: one record, preference 0; no other reading of an empty name makes sense.
        raise Undeliverable("5.1.10", f"the domain {domain} takes no mail (null MX)")
    plain = [(preference, name.rstrip(".").lower()) for preference, name in records]
    own = [preference for preference, name in plain if name == own_name.lower()]
    usable = [(preference, name) for preference, name in plain if name and (not own or preference < min(own))]
    if not usable:
        raise Undeliverable("5.4.6", f"mail for {domain} would come back to this gateway (its own MX)")
    ordered: list[NextHost] = []
    for preference in sorted({preference for preference, _ in usable}):
        equals = sorted({name for one, name in usable if one == preference})
        shuffle(equals)
        ordered += [NextHost(name, "", 25, "MX") for name in equals]
    return ordered


def by_literal(domain: str) -> NextHost | None:
    """The host that an address literal (`[192.0.2.1]`, `[IPv6:2001:db8::1]`) names; None: it is a domain."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return None
    text = domain[1:-1].lower().removeprefix("ipv6:")
    if not is_address(text):
        raise Undeliverable("5.1.2", f"{domain} is no address literal")
    return NextHost("", text, 25, "MX")


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _host(route: NextHop) -> NextHost:
    text = route.host.strip("[]")
    given = is_address(text)
    return NextHost(
        name="" if given else route.host.rstrip(".").lower(),
        address=text if given else "",
        port=route.port,
        by="Route",
        implicit_tls=route.implicit_tls,
        auth=route.auth_file is not None,
    )
