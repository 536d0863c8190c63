"""Next hops of a domain, in the order in which they are tried: routes, MX records, or the domain itself. Pure.

`routing` brings what the name servers say. RFC 5321 section 5.1 (order, own name among the MX hosts), RFC 7505
(null MX). Look-ups that came to nothing are told apart: what is so, and what could not be found out now.
"""

import ipaddress
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Final, Literal

from letterlock_api.snapshot import NextHop
from letterlock_gateway import values

Hosts = Literal["Route", "MX"]
# A domain's owner may list any number, and each can cost a look-up that times out.
MAX_HOSTS: Final = 20


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


@values.value
class NextHost:
    """A host to try."""

    name: str
    """Its DNS name; empty: it is given as an address."""
    address: str
    """The address it is given as; empty: `name` is to be resolved."""
    port: int
    by: Hosts
    implicit_tls: bool = False
    auth_file: str = ""
    """Names the credentials for it; empty: it wants no sign-in."""
    priority: int = field(default=0, compare=False)
    """Of the route, or preference of the MX record. For people: the order is that of the list."""

    @property
    def label(self) -> str:
        """How people call it."""
        return self.name or f"[{self.address}]"


@values.value
class Ourselves:
    """What this gateway is called, and where it takes mail from everybody: what a loop is noticed by."""

    template: str
    """Host name; `{member}` and `{ordinal}` stand for any member's, for mail that comes to one comes to all."""
    member: str
    listening: tuple[str, ...] = ()
    """Addresses of listeners on port 25, where MX hosts are spoken to; empty text: all addresses."""

    def has_name(self, name: str) -> bool:
        """Whether `name` (lower case, no trailing dot) is one of ours."""
        stem = re.escape(self.member.rpartition("-")[0] or self.member)
        pattern = re.escape(self.template.rstrip(".").lower())
        pattern = pattern.replace(r"\{member\}", rf"{stem}(-\d+)?").replace(r"\{ordinal\}", r"\d+")
        return re.fullmatch(pattern, name) is not None

    def listens_on(self, address: str) -> bool:
        """Whether a listener takes mail at `address`, if that is an address of this machine."""
        return any(not one or same_address(one, address) for one in self.listening)


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
    is_own: Callable[[str], bool] = lambda _: False,
    shuffle: Callable[[list[str]], None] = random.shuffle,
) -> list[NextHost]:
    """Hosts of MX `records` (preference, name); equals are shuffled. No records: the domain itself.

    `is_own`: whether a name (lower case, no trailing dot) leads to this gateway; what is no better than such a
    host is left out (RFC 5321 section 5.1). Raises Undeliverable for a null MX, and where this gateway is the
    best MX itself.
    """
    if not records:
        if is_own(domain):
            raise _loop(domain)
        return [NextHost(domain, "", 25, "MX")]
    if all(name in ("", ".") for _, name in records):
        # RFC 7505 section 3: one record, preference 0; no other reading of an empty name makes sense.
        raise Undeliverable("5.1.10", f"the domain {domain} takes no mail (null MX)")
    plain = [(preference, name.rstrip(".").lower()) for preference, name in records]
    own = [preference for preference, name in plain if is_own(name)]
    usable = [(preference, name) for preference, name in plain if name and (not own or preference < min(own))]
    if not usable:
        raise _loop(domain)
    ordered: list[NextHost] = []
    for preference in sorted({preference for preference, _ in usable}):
        equals = sorted({name for one, name in usable if one == preference})
        shuffle(equals)
        ordered += [NextHost(name, "", 25, "MX", priority=preference) for name in equals]
    return ordered[:MAX_HOSTS]


def by_literal(domain: str) -> NextHost | None:
    """The host that an address literal (`[192.0.2.1]`, `[IPv6:2001:db8::1]`) names; None: it is a domain."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return None
    text = domain[1:-1].lower().removeprefix("ipv6:")
    if not is_address(text):
        raise Undeliverable("5.1.2", f"{domain} is no address literal")
    return NextHost("", text, 25, "MX")


def same_address(one: str, other: str) -> bool:
    """Whether both are the same address, however it is written."""
    return is_address(one) and is_address(other) and ipaddress.ip_address(one) == ipaddress.ip_address(other)


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _loop(domain: str) -> Undeliverable:
    return Undeliverable("5.4.6", f"mail for {domain} would come back to this gateway (its own MX)")


def _host(route: NextHop) -> NextHost:
    text = route.host.strip("[]")
    given = is_address(text)
    return NextHost(
        name="" if given else route.host.rstrip(".").lower(),
        address=text if given else "",
        port=route.port,
        by="Route",
        implicit_tls=route.implicit_tls,
        auth_file=route.auth_file or "",
        priority=route.priority,
    )
