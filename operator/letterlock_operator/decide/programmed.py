"""Programmed: what the running members say, never only what was decided.

True only when every Ready member reports the resource's current digest (K3), and there is at least one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from letterlock_api.conditions import Reason, Type
from letterlock_operator.decide.verdicts import Finding, Verdict, false, listed, true
from letterlock_operator.world import Member


@dataclass(frozen=True)
class Standing:
    """How the members of a gateway stand to a snapshot: worked out once, for thousands of resources ask."""

    told: str
    """What is said of a resource that all of them run."""
    problem: Finding | None
    """Why nothing can be said to run."""
    ready: frozenset[str]
    """The Ready members."""
    behind: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """By resource (`Kind/name`): the Ready members that do not run it as the snapshot has it."""


NOBODY: Final = Standing("", None, frozenset())
"""Of a gateway that is not there."""


def standing(digests: Mapping[str, str], snapshot: str | None, members: Sequence[Member]) -> Standing:
    """How `members` stand to the snapshot with these digests and this hash (None: none could be made)."""
    ready = _ready(members)
    problem = _nobody(members) or _unreachable(members) or _refused(members, snapshot)
    behind: dict[str, tuple[str, ...]] = {}
    for one in ready:
        running = one.state.digests if one.state else {}
        if running == digests:
            continue
        for key, digest in digests.items():
            if running.get(key) != digest:
                behind[key] = (*behind.get(key, ()), one.name)
    return Standing(_all_of(members), problem, frozenset(one.name for one in ready), behind)


def programmed(key: str, digest: str | None, judged: Verdict, members: Standing) -> Verdict:
    """Whether every Ready member runs `digest` of resource `key` (`Kind/name`).

    `judged`: the resource's Accepted (or Ready) verdict; `digest` None: it is not in the snapshot.
    """
    if not judged.holds:
        return false(Type.PROGRAMMED, (judged.reason, judged.message))
    if digest is None:
        return false(Type.PROGRAMMED, (Reason.PENDING, "it is not part of the gateway's configuration yet"))
    finding = members.problem or _behind(members.behind.get(key, ()), members)
    if finding is not None:
        return false(Type.PROGRAMMED, finding)
    return true(Type.PROGRAMMED, Reason.PROGRAMMED, members.told)


def listening(name: str, verdict: Verdict, members: Sequence[Member]) -> Verdict:
    """`verdict` (Programmed) of a listener, unless a Ready member does not listen."""
    if not verdict.holds:
        return verdict
    for member in _ready(members):
        states = member.state.listeners if member.state else []
        mine = next((one for one in states if one.name == name), None)
        if mine is None or not mine.listening:
            problem = (mine.problem if mine else None) or "it does not say why"
            return false(Type.PROGRAMMED, (Reason.BIND_FAILED, f"{member.name} does not listen: {problem}"))
    return verdict


def _ready(members: Sequence[Member]) -> list[Member]:
    return [one for one in members if one.ready]


def _nobody(members: Sequence[Member]) -> Finding | None:
    if _ready(members):
        return None
    what = "no member is ready yet" if members else "the gateway has no members yet"
    # Said of thousands of resources: which member, and why, stands in the MailGateway alone.
    where = "the MailGateway's status and pods say why, or the lines of `letterlock up`"
    return Reason.NO_MEMBERS, f"{what}: if that lasts, {where}"


def _unreachable(members: Sequence[Member]) -> Finding | None:
    silent = [one for one in _ready(members) if one.state is None]
    if not silent:
        return None
    who = f"{listed([one.name for one in silent])} {'does' if len(silent) == 1 else 'do'} not answer"
    return Reason.MEMBER_UNREACHABLE, f"{who}: {silent[0].problem or 'no reason known'}"


def _refused(members: Sequence[Member], snapshot: str | None) -> Finding | None:
    for one in _ready(members):
        if one.state and snapshot and one.state.refused == snapshot:
            return (
                Reason.SNAPSHOT_REFUSED,
                f"{one.name} keeps its last good configuration: {one.state.refused_reason}",
            )
    return None


def _behind(behind: Sequence[str], members: Standing) -> Finding | None:
    if not behind:
        return None
    if len(behind) == len(members.ready):
        return Reason.PENDING, f"waiting for {listed(behind)} to take it"
    return Reason.MEMBERS_BEHIND, f"not yet taken by {listed(behind)}"


def _all_of(members: Sequence[Member]) -> str:
    count = len(_ready(members))
    return "the one member runs it" if count == 1 else f"all {count} members run it"
