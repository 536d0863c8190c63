"""How many members a gateway has while fewer are wanted: none goes before it is known to hold no mail. Pure.

Called by `whole`, before the snapshot is built: members learn from the snapshot that they are to go
(`Snapshot.drains`), stop taking mail in, hand their queue to those that stay, and say in their state when nothing is
left. They also learn from it whether they may take mail at all (`Snapshot.admits`): a new one may once it has been seen
to run. So one that the snapshot does not name has never taken any, whatever became of its pod (decision 37).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from letterlock_api.base import GROUP
from letterlock_api.conditions import Reason, Type
from letterlock_api.mailgateway import MailGateway
from letterlock_api.snapshot import Drain, Snapshot
from letterlock_operator.decide.verdicts import Verdict, true
from letterlock_operator.world import Member, World

FORCE: Final = f"{GROUP}/force-scale-in"
"""Annotation of a MailGateway: names of members, with commas between them, that go with what they hold."""
# A member's volume claim is named after the template and the member.
_VOLUME: Final = "spool"
# Named in the warning; of more only the number is given.
_NAMED: Final = 3


@dataclass(frozen=True)
class Scaling:
    """What was judged."""

    replicas: int
    """Of the StatefulSet."""
    drains: tuple[Drain, ...] = ()
    members: tuple[str, ...] = ()
    """Names of all there are to be; empty: there is one, and nobody counts them."""
    warning: Verdict | None = None
    admits: tuple[str, ...] | None = None
    """Members that may take mail; None: all."""


def judge(world: World, gateway: MailGateway, before: Snapshot | None = None) -> Scaling:
    """The members of `gateway`: as many as are wanted, and above them those that may still hold mail.

    `before`: the snapshot in place. Who may not take mail by its word holds none.

    A member that does not answer may hold mail. So may one that is empty but has not said that it takes none any more,
    and one that said so when something else was wanted: each order has the number of the gateway's generation, which
    changes with `replicas`.
    """
    wanted = gateway.spec.replicas
    if world.scales is None:
        return Scaling(wanted)
    members = {ordinal(one.name): one for one in world.members.get(gateway.name, ())}
    # A StatefulSet that was seen before its last change shows too few: pods that nobody has told to end count too.
    there = [number + 1 for number, one in members.items() if not one.leaving]
    present = max([world.scales.get(gateway.name, wanted), *there])
    order = gateway.metadata.generation or 1
    forced = {name.strip() for name in gateway.metadata.annotations.get(FORCE, "").split(",")}
    admitted = _admitted(world, gateway.name, before)
    held = [
        number
        for number in range(wanted, present)
        if f"{gateway.name}-{number}" not in forced
        and not _is_drained(members.get(number), order)
        and (admitted is None or number in admitted or _holds(members.get(number)))
    ]
    peers = [
        one.address
        for number, one in sorted(members.items())
        if number < wanted and one.ready and one.address
    ]
    surplus = sorted({*range(wanted, present), *(number for number in members if number >= wanted)})
    # Also for those that are let go already: until their processes end they must not take mail in again.
    drains = tuple(Drain(member=f"{gateway.name}-{number}", order=order, peers=peers) for number in surplus)
    warning = _warning(gateway.name, held, members, bool(peers)) if held else None
    admits = None
    if admitted is not None:
        staying = {number for number in admitted if not _is_drained(members.get(number), order)}
        running = {number for number, one in members.items() if _runs(one)}
        chosen = sorted({number for number in admitted | running if number < wanted} | staying)
        admits = tuple(f"{gateway.name}-{number}" for number in chosen)
    replicas = max([wanted, *(number + 1 for number in held)])
    names = tuple(f"{gateway.name}-{number}" for number in range(replicas))
    return Scaling(replicas, drains, names, warning, admits)


def ordinal(member: str) -> int:
    """The member's number; -1 for a name without one."""
    number = member.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _admitted(world: World, gateway: str, before: Snapshot | None) -> set[int] | None:
    """Those that may have taken mail so far, by number; None: that is not known of anybody.

    Where no snapshot says so (a new gateway; one that an older release has run), it is those with a volume: a gateway
    that is deleted leaves its spools, and one of the same name finds them.
    """
    if before is not None and before.admits is not None:
        return _numbers(before.admits, gateway)
    return None if world.claims is None else _numbers(world.claims, f"{_VOLUME}-{gateway}")


def _numbers(names: Iterable[str], prefix: str) -> set[int]:
    return {number for name in names if name.rpartition("-")[0] == prefix and (number := ordinal(name)) >= 0}


def _runs(member: Member) -> bool:
    return (member.started or member.state is not None) and not member.leaving


def _holds(member: Member | None) -> bool:
    """Whether it says that it has mail."""
    return member is not None and member.state is not None and member.state.queue > 0


def _is_drained(member: Member | None, order: int) -> bool:
    return member is not None and member.state is not None and member.state.drained == order


def _warning(gateway: str, held: Sequence[int], members: dict[int, Member], peers: bool) -> Verdict:
    told = [_told(f"{gateway}-{number}", members.get(number)) for number in held[:_NAMED]]
    if len(held) > _NAMED:
        told.append(f"and {len(held) - _NAMED} more")
    how = "" if peers else "; no other member is ready to take their mail, so they deliver it themselves"
    return true(Type.DRAINING, Reason.DRAINING, f"members go once they hold no mail: {', '.join(told)}{how}")


def _told(name: str, member: Member | None) -> str:
    if member is None:
        return f"{name} has no pod (to give up the mail in its volume, name it in the annotation {FORCE})"
    if member.state is None:
        why = member.problem or "no reason known"
        return f"{name} does not answer: {why} (to give up the mail in its volume, name it in the annotation {FORCE})"
    return f"{name} has {member.state.queue} recipients left"
