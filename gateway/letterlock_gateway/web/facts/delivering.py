"""Destination controls as pages show them: one row for each, searched by domain, next hop or name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from letterlock_api.snapshot import Destination
from letterlock_api.state import DestinationState
from letterlock_gateway.web.handed import Handed


@dataclass(frozen=True)
class Known:
    """A destination, and the text that searches look into. Made once for a set."""

    destination: Destination
    text: str

    @property
    def name(self) -> str:
        """Of the DestinationControl."""
        return self.destination.resource or "(built in)"

    @property
    def hops(self) -> list[str]:
        """Next hops that an administrator wrote."""
        return [f"{one.host}:{one.port}" for one in self.destination.routes]


@dataclass(frozen=True)
class Row:
    """One of them with what its deliveries came to."""

    known: Known
    state: DestinationState | None

    @property
    def failing(self) -> int:
        """How many of its domains fail now; as far as a state tells them."""
        return len(self.state.failing) if self.state is not None else 0


def known(handed: Handed) -> list[Known]:
    """All, by name."""
    found = [
        Known(one, "\n".join([one.resource, *one.domains, *(hop.host for hop in one.routes)]).lower())
        for one in handed.snapshot.destinations
    ]
    return sorted(found, key=lambda one: one.destination.resource)


def rows(
    all_known: Sequence[Known], by_resource: Mapping[str, DestinationState], wanted: str, *, failing: bool
) -> list[Row]:
    """Those that hold `wanted` in a name, a domain, a next hop, or among the domains that fail."""
    wanted = wanted.lower()
    found: list[Row] = []
    for one in all_known:
        its = by_resource.get(one.destination.resource)
        if failing and not (its and its.failing):
            continue
        hit = wanted in one.text or (its is not None and any(wanted in bad.domain for bad in its.failing))
        if hit:
            found.append(Row(one, its))
    return found
