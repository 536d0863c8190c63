"""What several members say, made one: a gateway's queue, its day of mail, its messages, its destinations. Pure.

The models say what an answer of another member has to be before a template sees it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import AwareDatetime, Field, TypeAdapter

from letterlock_api.base import Lenient
from letterlock_api.destinationcontrol import FailingDomain
from letterlock_api.state import DestinationState, ListenerState, MemberState
from letterlock_gateway.report.outcomes import SHOWN
from letterlock_gateway.spool import traffic
from letterlock_gateway.spool.traffic import Series, Traffic
from letterlock_gateway.web.looks import ROWS, Part

_DOMAINS: Final = 5
_TRAFFIC: Final = TypeAdapter(Traffic)
_TOLD: Final = TypeAdapter(dict[str, float])


class _Over(Lenient):
    protocol: str | None = None
    cipher: str | None = None


class _Recipient(Lenient):
    address: str
    state: str
    attempts: int = 0
    finished_at: AwareDatetime | None = None
    last_attempt: AwareDatetime | None = None
    next_attempt: AwareDatetime | None = None
    host: str | None = None
    ip: str | None = None
    protocol: str | None = None
    cipher: str | None = None
    verified: bool | None = None
    matched_name: str | None = None
    reply: str | None = None


class _Message(Lenient):
    mid: int
    icid: int
    sender: str
    received_at: AwareDatetime
    recipients: list[_Recipient]
    recipient_count: int
    message_id: str | None = Field(default=None, alias="messageID")
    received_from: str | None = None
    received_over: _Over | None = None
    about: int | None = None
    size: int | None = None


class _Domain(Lenient):
    domain: str
    recipients: int


class Waiting(Lenient):
    """What waits."""

    recipients: int
    oldest: AwareDatetime | None = None
    domains: list[_Domain] = Field(default_factory=list[_Domain])
    """Those with most of it, the most first."""


_MESSAGES: Final = TypeAdapter(list[_Message])


def read_state(said: object) -> MemberState:
    """A state from JSON. All `read_…` raise ValueError."""
    return MemberState.model_validate(said)


def read_messages(said: object) -> list[dict[str, Any]]:
    """Messages from JSON, as templates have them: what is not known is not there."""
    return [one.model_dump(by_alias=True, exclude_none=True) for one in _MESSAGES.validate_python(said)]


def read_waiting(said: object) -> Waiting:
    """What waits, from JSON."""
    return Waiting.model_validate(said)


def read_traffic(said: object) -> Traffic:
    """A day from JSON."""
    day = _TRAFFIC.validate_python(said)
    if any(len(one.values) != traffic.STEPS for one in (*day.incoming, *day.outgoing)):
        raise ValueError("not a whole day")
    return day


def read_told(said: object) -> dict[str, float]:
    """When it was told of which domain, from JSON."""
    return _TOLD.validate_python(said)


def traffic_to_json(day: Traffic) -> dict[str, Any]:
    """The reverse of `read_traffic`."""
    return _TRAFFIC.dump_python(day, mode="json")


def values[Value](parts: Iterable[Part[Value]]) -> list[tuple[str, Value]]:
    """Member and value of those that could be read."""
    return [(one.member, one.value) for one in parts if one.value is not None]


def waiting(parts: Iterable[Part[Waiting]]) -> Waiting:
    """What waits on all of them. Domains are counted as far as each member names them."""
    found = [one for _, one in values(parts)]
    domains: Counter[str] = Counter()
    for one in found:
        domains.update({domain.domain: domain.recipients for domain in one.domains})
    oldest = [one.oldest for one in found if one.oldest is not None]
    return Waiting(
        recipients=sum(one.recipients for one in found),
        oldest=min(oldest, default=None),
        domains=[_Domain(domain=domain, recipients=count) for domain, count in domains.most_common(_DOMAINS)],
    )


def messages(parts: Iterable[Part[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """The latest of all of them, each with its `member`."""
    found = [{**message, "member": member} for member, some in values(parts) for message in some]
    return sorted(found, key=_received, reverse=True)[:ROWS]


def day(parts: Iterable[Part[Traffic]]) -> Traffic | None:
    """The day of all of them: those whose clock has begun the next step already are moved to where they belong."""
    found = [one for _, one in values(parts)]
    if not found:
        return None
    latest = max(found, key=lambda one: one.start)
    return Traffic(
        start=latest.start,
        step=latest.step,
        incoming=_summed([(one, one.incoming) for one in found], latest),
        outgoing=_summed([(one, one.outgoing) for one in found], latest),
        bounced=sum(one.bounced for one in found),
    )


def listeners(parts: Iterable[Part[MemberState]]) -> dict[str, ListenerState]:
    """By name. One listens when it does on every member that could be read; else the first problem says why not."""
    states = values(parts)
    found: dict[str, ListenerState] = {}
    for name in sorted({one.name for _, state in states for one in state.listeners}):
        by_member = [
            (member, next((one for one in state.listeners if one.name == name), None))
            for member, state in states
        ]
        silent = [(member, one) for member, one in by_member if one is None or not one.listening]
        problem: str | None = None
        if silent:
            member, one = silent[0]
            problem = (one.problem if one is not None else None) or "does not listen yet"
            problem = problem if len(states) == 1 else f"{member}: {problem}"
        found[name] = ListenerState(name=name, listening=not silent, problem=problem)
    return found


def destinations(parts: Iterable[Part[MemberState]]) -> dict[str, DestinationState]:
    """By resource: the latest result of all, and every domain that fails on any, since the first saw it."""
    found: dict[str, DestinationState] = {}
    for _, state in values(parts):
        for one in state.destinations:
            known = found.get(one.resource)
            found[one.resource] = one if known is None else _both(known, one)
    return found


def _both(one: DestinationState, other: DestinationState) -> DestinationState:
    last = [state.last_tls for state in (one, other) if state.last_tls is not None]
    failing: dict[str, FailingDomain] = {}
    for bad in sorted([*one.failing, *other.failing], key=lambda bad: (bad.since, bad.domain)):
        failing.setdefault(bad.domain, bad)
    return DestinationState(
        resource=one.resource,
        last_tls=max(last, key=lambda seen: seen.time, default=None),
        failing=list(failing.values())[:SHOWN],
    )


def _received(message: Mapping[str, Any]) -> datetime:
    return message["receivedAt"]


def _summed(found: Sequence[tuple[Traffic, tuple[Series, ...]]], latest: Traffic) -> tuple[Series, ...]:
    summed: list[Series] = []
    for index, pattern in enumerate(found[0][1]):
        counts = [0] * traffic.STEPS
        for one, series in found:
            behind = round((latest.start - one.start) / latest.step)
            for step, count in enumerate(series[index].values):
                if 0 <= step - behind < traffic.STEPS:
                    counts[step - behind] += count
        summed.append(Series(pattern.name, pattern.kind, counts))
    return tuple(summed)
