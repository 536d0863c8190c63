"""The one decision: what shall be, out of what is. Called by the operator and by `letterlock up`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from letterlock_api.certificate import Certificate
from letterlock_api.destinationcontrol import DestinationControl
from letterlock_api.listener import Listener
from letterlock_api.mailgateway import MailGateway
from letterlock_api.snapshot import Snapshot
from letterlock_operator import names
from letterlock_operator.decide import (
    authorities,
    certificates,
    controls,
    exports,
    fitting,
    in_place,
    listeners,
    naming,
    scaling,
    snapshots,
    telling,
)
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.controls import Controls
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.remembering import Entry, Groups, Reads, Recall, watched
from letterlock_operator.decide.scaling import Scaling
from letterlock_operator.decide.snapshots import Given, Outcome
from letterlock_operator.decide.verdicts import accepted
from letterlock_operator.plan import Ensure, IssueInternal, Plan
from letterlock_operator.world import World

_EVER: Final = datetime.min.replace(tzinfo=UTC)

type _Heard = Mapping[str, Entry[listeners.Judged]]


@dataclass(frozen=True)
class Memo:
    """What a decision leaves for the next one about the same namespace: give it back, and it is the faster.

    A value like any other: the same world with it and without it gives the same plan.
    """

    moment: datetime = _EVER
    """Of the decision."""
    groups: tuple[Groups[Certificate], Groups[Listener], Groups[DestinationControl]] = field(
        default_factory=lambda: (Groups(), Groups(), Groups())
    )
    lists: Mapping[str, Authorities] = field(default_factory=dict[str, Authorities])
    judged: Mapping[str, Entry[JudgedCertificate]] = field(
        default_factory=dict[str, Entry[JudgedCertificate]]
    )
    demos: Mapping[str, Entry[JudgedCertificate]] = field(default_factory=dict[str, Entry[JudgedCertificate]])
    heard: Mapping[str, _Heard] = field(default_factory=dict[str, _Heard])
    """Listeners by gateway."""
    ruled: Mapping[str, Controls] = field(default_factory=dict[str, Controls])
    """DestinationControls by gateway."""
    outcomes: Mapping[str, Entry[Outcome]] = field(default_factory=dict[str, Entry[Outcome]])
    lying: Mapping[str, tuple[bytes, Snapshot]] = field(default_factory=dict[str, tuple[bytes, Snapshot]])
    """Snapshots in place by gateway, as they lie there and read."""
    told: telling.Before = field(default_factory=telling.Before)


NOTHING: Final = Memo()


def decide(world: World, now: datetime) -> Plan:
    """What shall be done for the namespace of `world` at `now` (aware). Raises nothing for what users wrote."""
    return decide_again(world, now, NOTHING)[0]


def decide_again(world: World, now: datetime, memo: Memo) -> tuple[Plan, Memo]:
    """The same, in less time where `memo` is of a decision on nearly the same world; and the next memo."""
    if now < memo.moment:
        memo = NOTHING  # what is remembered ends at a moment; nothing says when it begins
    places = _in_place(world, memo)
    before = {name: snapshot for name, (_, snapshot) in places.items()}
    scaled = {
        name: scaling.judge(world, one, before.get(name)) for name, one in sorted(world.gateways.items())
    }
    world, reads = _without_surplus(world, scaled), Reads(world.secrets)
    whole = watched(in_place.with_system_list(world, before), reads)
    world = watched(world, reads)
    lists = _same(memo.lists, authorities.judge_all(whole, before, now))
    deciding = _Deciding(whole, memo, lists, before, reads, now)
    known = Recall[JudgedCertificate](memo.judged, reads, now)
    judged = certificates.judge_all(world, lists, now, known)
    outcomes = {
        name: deciding.outcome(one, judged, scaled[name]) for name, one in sorted(world.gateways.items())
    }
    remembered = Memo(
        moment=now,
        groups=deciding.groups,
        lists=dict(lists),
        judged=known.after,
        demos=deciding.demos.after,
        heard=deciding.heard,
        ruled=deciding.controls,
        outcomes=deciding.outcomes.after,
        lying=places,
    )
    for outcome in outcomes.values():
        judged |= outcome.certificates
        # A list that one gateway has no room for is not what it says, whatever the others have.
        lists |= {name: one for name, one in outcome.lists.items() if not one.ready.holds}
    exported = exports.Exports(world)
    for name, one in sorted(world.ca_lists.items()):
        finding = exported.add(one, lists[name].entries) if lists[name].entries else None
        if finding is not None and lists[name].accepted.holds:
            lists[name] = replace(lists[name], accepted=accepted(finding))
    kept = [*judged.values(), *(one.demo for one in outcomes.values() if one.demo is not None)]
    issues = [order for one in kept for order in one.issues]
    issues += [order for one in kept for order in one.exports]
    found, events, told = telling.tell(
        world, telling.Judged(lists, judged, outcomes, deciding.groups[2]), memo.told, reads, now
    )
    wakes = [moment for one in kept for moment in one.wakes(now)]
    wakes += [one.wake for one in lists.values() if one.wake is not None]
    wakes += [one.until for one in world.conflicts]
    plan = Plan(
        mounts={name: one.mount for name, one in outcomes.items() if one.mount is not None},
        issues=tuple(issues),
        retired=tuple(order for one in kept for order in one.retired),
        requests=tuple(order for one in kept for order in one.asks),
        internal=tuple(order for name in outcomes if (order := _internal(world, name)) is not None),
        ensures=_ensures(world, whole),
        replicas={name: one.replicas for name, one in scaled.items()},
        texts=(*exported.files.values(), *exported.emptied()),
        statuses=found,
        events=events,
        wake=min(wakes, default=None),
    )
    return plan, replace(remembered, told=told)


def _without_surplus(world: World, scaled: Mapping[str, Scaling]) -> World:
    """The same, with members that are to go counted as not ready: what they run is nobody's concern any more."""
    going = {drain.member for one in scaled.values() for drain in one.drains}
    if not going:
        return world
    members = {
        gateway: tuple(replace(one, ready=False) if one.name in going else one for one in some)
        for gateway, some in world.members.items()
    }
    return replace(world, members=members)


def _in_place(world: World, memo: Memo) -> dict[str, tuple[bytes, Snapshot]]:
    """The snapshots in place: a large one takes long to read, and nearly always it is the one that was decided last."""
    found: dict[str, tuple[bytes, Snapshot]] = {}
    for name in sorted(world.gateways):
        lies = in_place.packed(world, name)
        known = memo.lying.get(name)
        made = memo.outcomes.get(name)
        mount = made.value.mount if made is not None else None
        if lies is None:
            continue
        if known is not None and known[0] == lies:
            found[name] = known
        elif mount is not None and mount.packed == lies:
            found[name] = lies, mount.snapshot
        elif (read := in_place.read(lies)) is not None:
            found[name] = lies, read
    return found


def _same[V](before: Mapping[str, V], after: dict[str, V]) -> dict[str, V]:
    """`after`, with those that are equal to what they were as the same objects: they are compared again and again."""
    return {name: before[name] if before.get(name) == one else one for name, one in after.items()}


class _Deciding:
    """The gateways of one decision."""

    def __init__(
        self,
        world: World,
        memo: Memo,
        lists: Mapping[str, Authorities],
        before: Mapping[str, Snapshot],
        reads: Reads,
        now: datetime,
    ) -> None:
        self._world = world
        self._memo = memo
        self._lists = lists
        self._before = before
        self._reads = reads
        self._now = now
        self.groups = (
            memo.groups[0].again(world.certificates),
            memo.groups[1].again(world.listeners),
            memo.groups[2].again(world.destinations),
        )
        self.demos = Recall[JudgedCertificate](memo.demos, reads, now)
        self.outcomes = Recall[Outcome](memo.outcomes, reads, now)
        self.heard: dict[str, _Heard] = {}
        self.controls: dict[str, Controls] = {}

    def outcome(
        self, gateway: MailGateway, judged: Mapping[str, JudgedCertificate], scaled: Scaling
    ) -> Outcome:
        """What becomes of one gateway."""
        name, world, now = gateway.name, self._world, self._now
        certified, listening, ruled = (
            self.groups[0].of(name),
            self.groups[1].of(name),
            self.groups[2].of(name),
        )
        lists = {key: one for key, one in self._lists.items() if one.serves(name)}
        known = self._memo.ruled.get(name, controls.NONE)
        were = self._memo.groups[2].of(name) if name in self._memo.ruled else dict[str, DestinationControl]()
        mine = controls.judge_all(world, name, ruled, lists, {}, before=known, were=were)
        self.controls[name] = mine
        self.heard[name] = self._memo.heard.get(name, {})
        demo = None
        if snapshots.needs_demo(gateway, listening):
            demo = certificates.demo_again(world, name, now, self.demos)
        before = self._before.get(name)
        given = Given(
            gateway,
            listening,
            {key: judged[key] for key in certified},
            lists,
            ruled,
            mine,
            demo,
            before,
            scaled,
            Recall[listeners.Judged](self.heard[name], self._reads, now),
        )

        def build() -> tuple[Outcome, datetime | None]:
            built = fitting.build(world, given, now)
            self.heard[name] = given.heard.after
            return built

        inputs = (
            gateway.spec,
            gateway.metadata.generation,
            {key: (one.spec, one.metadata.creation_timestamp) for key, one in listening.items()},
            {key: one.metadata.creation_timestamp for key, one in certified.items()},
            given.judged,
            lists,
            mine,
            demo,
            scaled,
            world.names_of_members(name),
            in_place.still_said(world, before),
            [world.config_maps.get(names.ca_shard(name, number)) for number in range(names.CA_SHARDS)],
            naming.gateway_taken(world, name),
            world.foreign,
            world.invalid,
            {key: one.metadata.creation_timestamp for key, one in world.ca_lists.items()},
        )
        return self.outcomes.of(name, inputs, build)


def _internal(world: World, gateway: str) -> IssueInternal | None:
    """The internal CA is made once; a Secret that cannot be read, or is not ours, is left alone."""
    secret = names.internal_secret(gateway)
    return IssueInternal(gateway, secret) if secret not in world.secrets else None


def _ensures(world: World, whole: World) -> tuple[Ensure, ...]:
    """What `whole` has and `world` has not: the system list, as it was before somebody deleted it."""
    missing = sorted(whole.ca_lists.keys() - world.ca_lists.keys())
    return tuple(
        Ensure("CAList", name, whole.ca_lists[name].spec.model_dump(by_alias=True, exclude_unset=True))
        for name in missing
    )
