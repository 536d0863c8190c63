"""Reference names: what a receiving host's certificate may be for, per mode ("Which names count"). Pure.

Used by `checks`, which gets the presented names and, where they are needed, the reverse names of the host.
The name in a greeting or an EHLO reply is never among them: the peer chose it.
"""

from collections.abc import Sequence

from letterlock_api.destinationcontrol import NameSource
from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway import values
from letterlock_gateway.report.printable import one_line
from letterlock_gateway.tls import names
from letterlock_gateway.tls.names import Presented


@values.value
class Reference:
    """A name to look for, and why it counts."""

    name: str
    source: NameSource


def wanted(
    mode: ResolvedTLSMode,
    *,
    domain: str,
    explicit: Sequence[str],
    route: str,
    mx: Sequence[str],
) -> tuple[Reference, ...]:
    """The names that count whatever kind the presented ones are of, in the order in which they are looked for.

    `explicit`: from the resource; these replace all others. `route`: the name of the route's host in use;
    empty: no route, or an address. `mx`: names of the MX host in use.
    """
    if explicit:
        return tuple(Reference(name, "Explicit") for name in explicit)
    found = [Reference(domain, "Recipient")]
    if mode == "RequiredVerifyHostedDomains":
        if route:
            found.append(Reference(route, "Route"))
        else:
            found.extend(Reference(name, "MX") for name in mx)
    return tuple(found)


def reverse_counts(mode: ResolvedTLSMode, explicit: Sequence[str], presented: Presented) -> bool:
    """Whether the host's reverse names (those that resolve back to its address) count as well."""
    return presented.common_name and not explicit and mode in {"PreferredVerify", "RequiredVerify"}


def first_match(references: Sequence[Reference], presented: Presented) -> Reference | None:
    """The first reference that a presented name covers."""
    for reference in references:
        if any(names.match(reference.name, name) for name in presented.names):
            return reference
    return None


def mismatch(references: Sequence[Reference], presented: Presented) -> str:
    """For people: the names that were asked for and those that were presented."""
    asked = ", ".join(dict.fromkeys(names.normalised(reference.name) for reference in references))
    kind = "common name" if presented.common_name else "certificate is for"
    # A certificate may hold any number of names, of any length; those of hosts have 253 characters at most.
    shown = ", ".join(one_line(name, 255) for name in presented.names[:20]) or "none"
    more = f" and {len(presented.names) - 20} more" if len(presented.names) > 20 else ""
    return f"asked for {asked}; {kind} {shown}{more}"
