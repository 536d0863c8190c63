"""Listeners as pages show them: the summary (L5), policies, and who belongs to which sender group (L7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from letterlock_api import receptions
from letterlock_api.snapshot import ReceptionPolicy, SnapshotListener
from letterlock_api.state import ListenerState
from letterlock_gateway.receive.access import AccessTable, Match, NamesNeeded, client_address

NO_NAME: Final = "-"
"""Said by people: the client has no verified name."""


@dataclass(frozen=True)
class Summary:
    """One listener in a row."""

    listener: SnapshotListener
    tls: str
    certificate: str
    """Its first one's name; `(demo)`, or empty where it serves none."""
    listening: bool
    problem: str

    @property
    def interface(self) -> str:
        """Address and port."""
        address = self.listener.address
        return f"{f'[{address}]' if ':' in address else address or '*'}:{self.listener.port}"

    @property
    def domain_map(self) -> list[str]:
        """What is rewritten."""
        return [f"{old} → {new}" for old, new in self.listener.domain_map.items()]


def summaries(listeners: Sequence[SnapshotListener], states: Mapping[str, ListenerState]) -> list[Summary]:
    """All of them, by name. `states`: the same."""
    return [_summary(one, states.get(one.name)) for one in sorted(listeners, key=lambda one: one.name)]


def _summary(one: SnapshotListener, state: ListenerState | None) -> Summary:
    first = one.certificates[0] if one.certificates else None
    return Summary(
        listener=one,
        tls=receptions.summary(receptions.reachable(one.policies, one.groups)),
        certificate="" if first is None else "(demo)" if first.demo else first.name,
        listening=state is not None and state.listening,
        problem=(state.problem or "") if state is not None else "",
    )


@dataclass(frozen=True)
class Belongs:
    """What host access makes of a client."""

    match: Match | None = None
    policy: ReceptionPolicy | None = None
    problem: str = ""
    """Why it cannot be told."""
    names_needed: bool = False
    """Whether it takes the client's host names."""


def belongs(listener: SnapshotListener, address: str, names: Sequence[str]) -> Belongs:
    """The sender group of a client at `address`; `names`: what its reverse name is, if that is known."""
    try:
        parsed = client_address(address)
    except ValueError:
        return Belongs(problem=f"{address} is no IPv4 or IPv6 address")
    try:
        given = None if not names else [one.lower().rstrip(".") for one in names if one != NO_NAME]
        match = AccessTable(listener.groups).match(parsed, given)
    except NamesNeeded:
        return Belongs(names_needed=True)
    policy = next((one for one in listener.policies if match is not None and one.name == match.policy), None)
    return Belongs(match, policy)
