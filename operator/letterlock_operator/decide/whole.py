"""The one decision: what shall be, out of what is. Called by the operator and by `letterlock up`."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from letterlock_api.conditions import Condition, Reason, Type, condition
from letterlock_api.destinationcontrol import DestinationControlStatus
from letterlock_api.kinds import KINDS
from letterlock_api.mailgateway import MailGateway
from letterlock_api.snapshot import Snapshot
from letterlock_operator import names
from letterlock_operator.decide import (
    authorities,
    certificates,
    destinations,
    exports,
    fitting,
    happenings,
    in_place,
    listeners,
    scaling,
    statuses,
)
from letterlock_operator.decide.outcomes import by_resource
from letterlock_operator.decide.scaling import Scaling
from letterlock_operator.decide.snapshots import Outcome
from letterlock_operator.decide.verdicts import accepted, false
from letterlock_operator.plan import AnyStatus, Ensure, Event, IssueInternal, Plan
from letterlock_operator.world import World

type Statuses = dict[tuple[str, str], AnyStatus]


def decide(world: World, now: datetime) -> Plan:
    """What shall be done for the namespace of `world` at `now` (aware). Raises nothing for what users wrote."""
    before = in_place.all_previous(world)
    scaled = {
        name: scaling.judge(world, one, before.get(name)) for name, one in sorted(world.gateways.items())
    }
    world = _without_surplus(world, scaled)
    whole = in_place.with_system_list(world, before)
    lists = authorities.judge_all(whole, before, now)
    judged = certificates.judge_all(world, lists, now)
    outcomes = {
        name: _outcome(whole, gateway, lists, judged, before.get(name), now, scaled=scaled[name])
        for name, gateway in sorted(world.gateways.items())
    }
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
    found = _statuses(world, lists, judged, outcomes, now)
    wakes = [moment for one in kept for moment in one.wakes(now)]
    wakes += [one.wake for one in lists.values() if one.wake is not None]
    wakes += [one.until for one in world.conflicts]
    return Plan(
        mounts={name: one.mount for name, one in outcomes.items() if one.mount is not None},
        issues=tuple(issues),
        retired=tuple(order for one in kept for order in one.retired),
        requests=tuple(order for one in kept for order in one.asks),
        internal=tuple(order for name in outcomes if (order := _internal(world, name)) is not None),
        ensures=_ensures(world, whole),
        replicas={name: one.replicas for name, one in scaled.items()},
        texts=(*exported.files.values(), *exported.emptied()),
        statuses=found,
        events=tuple(_events(world, found)),
        wake=min(wakes, default=None),
    )


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


def _outcome(
    world: World,
    gateway: MailGateway,
    lists: Mapping[str, authorities.Authorities],
    judged: Mapping[str, certificates.Judged],
    before: Snapshot | None,
    now: datetime,
    *,
    scaled: Scaling,
) -> Outcome:
    mine = {
        name: one
        for name, one in judged.items()
        if world.certificates[name].spec.gateway_ref.name == gateway.name
    }
    serving = {name: one for name, one in lists.items() if one.serves(gateway.name)}
    return fitting.build(world, gateway, serving, mine, before, now, scaling=scaled)


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


def _statuses(
    world: World,
    lists: Mapping[str, authorities.Authorities],
    judged: Mapping[str, certificates.Judged],
    outcomes: Mapping[str, Outcome],
    now: datetime,
) -> Statuses:
    found: Statuses = {}
    for name, outcome in outcomes.items():
        conflicts = [one for one in world.conflicts if one.gateway == name]
        found["MailGateway", name] = statuses.gateway(outcome, world.members.get(name, ()), now, conflicts)
    for name, one in world.certificates.items():
        gateway = one.spec.gateway_ref.name
        users = world.users.get(name, ())
        members = world.members.get(gateway, ())
        found["Certificate", name] = statuses.certificate(
            one, judged[name], users, outcomes.get(gateway), members, now
        )
    for name, one in world.ca_lists.items():
        reference = one.spec.gateway_ref
        serving = {
            key: value for key, value in outcomes.items() if reference is None or reference.name == key
        }
        verdict = statuses.ca_programmed(f"CAList/{name}", lists[name], serving, world.members)
        found["CAList", name] = statuses.ca_list(one, lists[name], verdict, now)
    for name, one in world.listeners.items():
        gateway = one.spec.gateway_ref.name
        outcome = outcomes.get(gateway)
        if outcome is None:
            finding = statuses.missing_gateway(gateway)
            nothing = listeners.Judged(accepted(finding), false(Type.RESOLVED_REFS, finding))
            found["Listener", name] = statuses.listener(one, nothing, None, (), now)
            continue
        heard = outcome.listeners[name]
        found["Listener", name] = statuses.listener(one, heard, outcome, world.members.get(gateway, ()), now)
    said = {gateway: by_resource(members) for gateway, members in world.members.items()}
    for name, one in world.destinations.items():
        gateway = one.spec.gateway_ref.name
        outcome = outcomes.get(gateway)
        control = (
            destinations.Judged(accepted(statuses.missing_gateway(gateway)), ())
            if outcome is None
            else outcome.destinations[name]
        )
        found["DestinationControl", name] = statuses.destination(
            one,
            control,
            outcome,
            world.members.get(gateway, ()),
            said.get(gateway, {}).get(name, ()),
            now,
        )
    for one in world.invalid:
        found[one.kind, one.name] = _invalid(one.kind, one.problem, one.generation, now)
    return found


def _invalid(kind: str, problem: str, generation: int | None, now: datetime) -> AnyStatus:
    """A resource that does not fit the models: said in its status, and the last good state keeps running."""
    text = f"{problem}: correct it; until then what was good before keeps running"
    conditions = [
        condition(one, "False", Reason.INVALID, text, generation, now)
        for one in (Type.ACCEPTED, Type.PROGRAMMED)
    ]
    model = type(KINDS[kind].model_construct().status)
    return model(observed_generation=generation, conditions=conditions)


def _events(world: World, found: Statuses) -> list[Event]:
    result: list[Event] = []
    # What an invalid resource's status said before cannot be read: its condition speaks, not a stream of Events.
    silent = {(one.kind, one.name) for one in world.invalid}
    for (kind, name), status in found.items():
        if (kind, name) in silent:
            continue
        happened = happenings.events(kind, name, _conditions(world, kind, name), status.conditions)
        if isinstance(status, DestinationControlStatus):
            before = world.destinations[name].status.failing or []
            happened += happenings.begun_to_fail(name, before, status.failing or [], happened)
        result += happened
    return result


def _conditions(world: World, kind: str, name: str) -> list[Condition]:
    tables = {
        "MailGateway": world.gateways,
        "Certificate": world.certificates,
        "Listener": world.listeners,
        "DestinationControl": world.destinations,
        "CAList": world.ca_lists,
    }
    resource = tables[kind].get(name)
    return list(resource.status.conditions) if resource is not None else []
