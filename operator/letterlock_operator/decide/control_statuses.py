"""What is said of the DestinationControls of a gateway: thousands, of which most stay as they are. Called by `telling`.

A change that concerns one of them costs one of them: who else might be concerned is found by what differs from the
decision before, never by looking at each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from letterlock_api.destinationcontrol import DestinationControl, DestinationControlStatus
from letterlock_api.state import DestinationState
from letterlock_operator.decide import destinations, happenings, outcomes, statuses
from letterlock_operator.decide.programmed import NOBODY, Standing
from letterlock_operator.decide.snapshots import Outcome
from letterlock_operator.decide.verdicts import Finding, accepted
from letterlock_operator.plan import Event

KIND: Final = "DestinationControl"


@dataclass(frozen=True)
class Given:
    """What it is made from."""

    gateway: str
    resources: Mapping[str, DestinationControl] = field(default_factory=dict[str, DestinationControl])
    outcome: Outcome | None = None
    """None: there is no such gateway."""
    standing: Standing = NOBODY
    states: Mapping[str, Sequence[DestinationState]] = field(
        default_factory=dict[str, Sequence[DestinationState]]
    )
    """The members' word, by resource."""
    silent: bool = True
    """Whether no member has said anything at all."""

    @property
    def judged(self) -> Mapping[str, destinations.Judged]:
        """What was judged."""
        return self.outcome.controls.judged if self.outcome is not None else {}

    @property
    def common(self) -> tuple[object, ...]:
        """What concerns all of them at once."""
        problem: Finding | None = None
        if self.outcome is not None and self.outcome.mount is None:
            problem = self.outcome.finding
        members = self.standing
        return self.outcome is None, problem, members.told, members.problem, members.ready, self.silent


@dataclass(frozen=True, eq=False)
class Told:
    """What is said, and what it was made from."""

    given: Given
    statuses: Mapping[tuple[str, str], DestinationControlStatus] = field(
        default_factory=dict[tuple[str, str], DestinationControlStatus]
    )
    """By kind and name."""
    events: Mapping[str, tuple[Event, ...]] = field(default_factory=dict[str, tuple[Event, ...]])
    """By name, where there are any."""
    until: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    """By name: when it is another one even if nothing happens."""


NOTHING: Final = Told(Given(""))


def tell(given: Given, before: Told, now: datetime) -> Told:
    """What is to be said of all of them."""
    concerned = _concerned(given, before.given)
    concerned |= {name for name, moment in before.until.items() if moment <= now}
    gone = before.given.resources.keys() - given.resources.keys() if concerned else ()
    found, events, until = dict(before.statuses), dict(before.events), dict(before.until)
    for name in gone:
        found.pop((KIND, name), None)
        events.pop(name, None)
        until.pop(name, None)
    for name in concerned:
        one = given.resources.get(name)
        if one is None:
            continue
        found[KIND, name], happened, moment = _told(one, given, now)
        events.pop(name, None)
        until.pop(name, None)
        if happened:
            events[name] = happened
        if moment is not None:
            until[name] = moment
    return Told(given, found, events, until)


def _concerned(given: Given, before: Given) -> set[str]:
    if given.common != before.common:
        return {*given.resources, *before.resources}
    found = _differing(before.resources, given.resources) | _differing(before.judged, given.judged)
    found |= _unequal(before.states, given.states)
    behind = _unequal(before.standing.behind, given.standing.behind)
    return found | {key.removeprefix(f"{KIND}/") for key in behind if key.startswith(f"{KIND}/")}


def _differing(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    """Names of what is not the same object any more."""
    if before is after:
        return set()
    found = {name for name, one in after.items() if before.get(name) is not one}
    return found | (before.keys() - after.keys())


def _unequal(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _told(
    one: DestinationControl, given: Given, now: datetime
) -> tuple[DestinationControlStatus, tuple[Event, ...], datetime | None]:
    judged = given.judged.get(one.name) or destinations.Judged(
        accepted(statuses.missing_gateway(given.gateway)), ()
    )
    running = statuses.running(f"{KIND}/{one.name}", judged.accepted, given.outcome, given.standing)
    states = given.states.get(one.name, ())
    status = statuses.destination(one, judged, running, states, now, silent=given.silent)
    happened = happenings.events(KIND, one.name, one.status.conditions, status.conditions)
    happened += happenings.begun_to_fail(one.name, one.status.failing or [], status.failing or [], happened)
    ends = happenings.news_until(one.status.conditions, status.conditions, now)
    settles = outcomes.settles(one.status, states)
    if ends is None and settles is not None and settles > now:
        ends = settles
    return status, tuple(happened), ends
