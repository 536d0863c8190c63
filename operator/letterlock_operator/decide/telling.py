"""What is said of every resource: its status, and Events for what is news in it. Called by `whole`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from letterlock_api.certificate import Certificate, CertificateStatus
from letterlock_api.conditions import Condition, Reason, Type, condition
from letterlock_api.destinationcontrol import DestinationControl
from letterlock_api.kinds import KINDS, AnyResource
from letterlock_operator.decide import (
    control_statuses,
    happenings,
    listeners,
    statuses,
)
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.control_statuses import Told
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.outcomes import by_resource
from letterlock_operator.decide.programmed import NOBODY, Standing, standing
from letterlock_operator.decide.remembering import Entry, Groups, Reads, Recall
from letterlock_operator.decide.snapshots import Outcome
from letterlock_operator.decide.verdicts import accepted, false
from letterlock_operator.plan import AnyStatus, Event
from letterlock_operator.world import InvalidResource, World

type Statuses = dict[tuple[str, str], AnyStatus]


class Said(NamedTuple):
    """Of one resource."""

    status: AnyStatus
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Before:
    """What was said in the decision before, and what it was made from."""

    standings: Mapping[str, Entry[Standing]] = field(default_factory=dict[str, Entry[Standing]])
    certificates: Mapping[str, Entry[Said]] = field(default_factory=dict[str, Entry[Said]])
    listeners: Mapping[str, Entry[Said]] = field(default_factory=dict[str, Entry[Said]])
    controls: Mapping[str, Told] = field(default_factory=dict[str, Told])
    """By gateway."""


@dataclass(frozen=True)
class Judged:
    """All that is to be told of."""

    lists: Mapping[str, Authorities]
    certificates: Mapping[str, JudgedCertificate]
    outcomes: Mapping[str, Outcome]
    """By gateway."""
    controls: Groups[DestinationControl]
    """DestinationControls by gateway."""


def tell(
    world: World, judged: Judged, before: Before, reads: Reads, now: datetime
) -> tuple[Statuses, tuple[Event, ...], Before]:
    """All statuses, all Events, and what the next decision is to be given."""
    telling = _Telling(world, judged, before, reads, now)
    telling.gateways()
    telling.certificates()
    telling.ca_lists()
    telling.listeners()
    controls = telling.controls()
    for one in world.invalid:
        telling.found[one.kind, one.name] = _invalid(one, now)
    # What an invalid resource's status said before cannot be read: its condition speaks, not a stream of Events.
    silent = {(one.kind, one.name) for one in world.invalid}
    events = tuple(
        event for event in sorted(telling.events, key=_order) if (event.kind, event.name) not in silent
    )
    after = Before(
        telling.standing.after, telling.of_certificates.after, telling.of_listeners.after, controls
    )
    return telling.found, events, after


def _order(event: Event) -> tuple[str, str]:
    return event.kind, event.name


class _Telling:
    """One decision's worth."""

    def __init__(self, world: World, judged: Judged, before: Before, reads: Reads, now: datetime) -> None:
        self._world = world
        self._judged = judged
        self._before = before
        self._now = now
        self.found: Statuses = {}
        self.events: list[Event] = []
        self.standing = Recall[Standing](before.standings, reads, now)
        self.of_certificates = Recall[Said](before.certificates, reads, now)
        self.of_listeners = Recall[Said](before.listeners, reads, now)
        self._standings = {name: self._stand(name, one) for name, one in judged.outcomes.items()}

    def _stand(self, gateway: str, outcome: Outcome) -> Standing:
        members = self._world.members.get(gateway, ())
        digests = outcome.snapshot.digests
        return self.standing.of(
            gateway,
            (digests, outcome.hash, members),
            lambda: (standing(digests, outcome.hash, members), None),
        )

    def gateways(self) -> None:
        """Every MailGateway."""
        for name, outcome in self._judged.outcomes.items():
            resource, members = self._world.gateways[name], self._world.members.get(name, ())
            conflicts = self._world.conflicting.get(name, ())
            status = statuses.gateway(
                resource, outcome, self._standings[name], members, self._now, conflicts=conflicts
            )
            self._say("MailGateway", name, self._said(resource, status)[0])

    def certificates(self) -> None:
        """Every Certificate."""
        for name, one in self._world.certificates.items():
            judged, users = self._judged.certificates[name], self._world.users.get(name, ())
            gateway = one.spec.gateway_ref.name
            outcome = self._judged.outcomes.get(gateway)
            members = self._standings.get(gateway, NOBODY)
            running = statuses.running(f"Certificate/{name}", judged.ready, outcome, members)
            said = self.of_certificates.of(
                name,
                (one, judged, users, running),
                lambda one=one, judged=judged, users=users, running=running: self._said(
                    one, statuses.certificate(one, judged, users, running, self._now)
                ),
            )
            self._say("Certificate", name, said)

    def ca_lists(self) -> None:
        """Every CA list."""
        for name, one in self._world.ca_lists.items():
            reference = one.spec.gateway_ref
            serving = {
                key: value
                for key, value in self._judged.outcomes.items()
                if reference is None or reference.name == key
            }
            judged = self._judged.lists[name]
            verdict = statuses.ca_programmed(f"CAList/{name}", judged, serving, self._standings)
            self._say("CAList", name, self._said(one, statuses.ca_list(one, judged, verdict, self._now))[0])

    def listeners(self) -> None:
        """Every Listener."""
        for name, one in self._world.listeners.items():
            gateway = one.spec.gateway_ref.name
            outcome = self._judged.outcomes.get(gateway)
            members = self._world.members.get(gateway, ())
            if outcome is None:
                finding = statuses.missing_gateway(gateway)
                judged = listeners.Judged(accepted(finding), false(Type.RESOLVED_REFS, finding))
                running, shown, words = false(Type.PROGRAMMED, finding), None, []
            else:
                judged = outcome.listeners[name]
                running = statuses.listener_running(name, judged, outcome, self._standings[gateway], members)
                shown = statuses.listener_shown(judged, outcome)
                words = statuses.listener_members(name, members)
            given = (one, judged, running, shown, words)
            said = self.of_listeners.of(
                name, given, lambda given=given: self._said(given[0], statuses.listener(*given, self._now))
            )
            self._say("Listener", name, said)

    def controls(self) -> dict[str, Told]:
        """Every DestinationControl; those that did not change are not even looked at."""
        after: dict[str, Told] = {}
        for gateway, mine in self._judged.controls.by_gateway.items():
            outcome = self._judged.outcomes.get(gateway)
            members = self._world.members.get(gateway, ())
            after[gateway] = told = control_statuses.tell(
                control_statuses.Given(
                    gateway,
                    mine,
                    outcome,
                    self._standings.get(gateway, NOBODY),
                    by_resource(members),
                    not any(member.state for member in members),
                ),
                self._before.controls.get(gateway, control_statuses.NOTHING),
                self._now,
            )
            self.found |= told.statuses
            self.events += [event for some in told.events.values() for event in some]
        return after

    def _said(self, resource: AnyResource, status: AnyStatus) -> tuple[Said, datetime | None]:
        present: Sequence[Condition] = resource.status.conditions
        happened = happenings.events(resource.kind, resource.name, present, status.conditions)
        if isinstance(resource, Certificate) and isinstance(status, CertificateStatus):
            happened += happenings.made_anew(resource.name, resource.status, status, happened)
        return Said(status, tuple(happened)), happenings.news_until(present, status.conditions, self._now)

    def _say(self, kind: str, name: str, said: Said) -> None:
        self.found[kind, name] = said.status
        self.events += said.events


def _invalid(one: InvalidResource, now: datetime) -> AnyStatus:
    """A resource that does not fit the models: said in its status, and the last good state keeps running."""
    text = f"{one.problem}: correct it; until then what was good before keeps running"
    conditions = [
        condition(kind, "False", Reason.INVALID, text, one.generation, now)
        for kind in (Type.ACCEPTED, Type.PROGRAMMED)
    ]
    model = type(KINDS[one.kind].model_construct().status)
    return model(observed_generation=one.generation, conditions=conditions)
