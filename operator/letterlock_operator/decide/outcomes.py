"""What deliveries came to: lastTLS, failing and the Delivering condition, from the members' own words."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from letterlock_api.conditions import Reason, Type
from letterlock_api.destinationcontrol import DestinationControlStatus, FailingDomain, LastTLS
from letterlock_api.state import DestinationState
from letterlock_operator.decide.verdicts import Verdict, false, true, unknown
from letterlock_operator.world import Member

# A busy destination changes its last result with every message; a status is no log.
_REFRESH: Final = timedelta(minutes=5)
_MAX_FAILING: Final = 10


def by_resource(members: Sequence[Member]) -> dict[str, list[DestinationState]]:
    """What the members say of each DestinationControl."""
    found: dict[str, list[DestinationState]] = {}
    for member in members:
        for state in member.state.destinations if member.state else ():
            found.setdefault(state.resource, []).append(state)
    return found


def outcome(
    present: DestinationControlStatus,
    states: Sequence[DestinationState],
    now: datetime,
    *,
    silent: bool,
) -> tuple[LastTLS | None, list[FailingDomain], Verdict]:
    """What the status of a DestinationControl says of its deliveries. `states`: the members' word on it.

    `silent`: whether no member has said anything at all.
    """
    last = max((one.last_tls for one in states if one.last_tls), key=lambda one: one.time, default=None)
    earliest: dict[str, FailingDomain] = {}
    for failing in sorted((one for state in states for one in state.failing), key=lambda one: one.since):
        earliest.setdefault(failing.domain, failing)
    listed = sorted(earliest.values(), key=lambda one: (one.since, one.domain))[:_MAX_FAILING]
    return _quiet(present.last_tls, last, now), listed, _delivering(present, last, listed, silent=silent)


def settles(present: DestinationControlStatus, states: Sequence[DestinationState]) -> datetime | None:
    """When `outcome` may be another one though nothing happens; None: never."""
    spoken = present.last_tls is not None and any(one.last_tls for one in states)
    return present.last_tls.time + _REFRESH if present.last_tls is not None and spoken else None


def _quiet(present: LastTLS | None, last: LastTLS | None, now: datetime) -> LastTLS | None:
    """The previous value, unless the outcome differs or it has become old."""
    if last is None or present is None:
        return last or present
    if _outcome_of(last) == _outcome_of(present) and now - present.time < _REFRESH:
        return present
    return last if last.time >= present.time else present


def _outcome_of(last: LastTLS) -> tuple[object, ...]:
    return last.domain, last.host, last.result, last.protocol, last.verified, last.matched_name


def _delivering(
    present: DestinationControlStatus,
    last: LastTLS | None,
    failing: Sequence[FailingDomain],
    *,
    silent: bool,
) -> Verdict:
    if failing:
        first = failing[0]
        detail = (
            f": {last.reason}" if last is not None and last.domain == first.domain and last.reason else ""
        )
        more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
        reason = Reason(first.reason) if first.reason in set(Reason) else Reason.UNREACHABLE
        return false(
            Type.DELIVERING,
            (reason, f"mail for {first.domain}{more} waits since {first.since:%Y-%m-%d %H:%M}{detail}"),
        )
    if last is not None and last.result != Reason.DELIVERED:
        # It bounced or was deleted: nothing waits, and nothing was delivered either.
        text = f"no mail waits; the last, for {last.domain}, was not delivered: {last.reason or last.result}"
        return unknown(Type.DELIVERING, (Reason.NO_TRAFFIC, text))
    if last is not None:
        return true(Type.DELIVERING, Reason.DELIVERED, _told(last))
    before = next((one for one in present.conditions if one.type == Type.DELIVERING), None)
    if silent and before is not None and before.reason in set(Reason):
        return Verdict(Type.DELIVERING, before.status, Reason(before.reason), before.message)
    if present.last_tls is not None and present.last_tls.result == "Delivered":
        return true(Type.DELIVERING, Reason.DELIVERED, _told(present.last_tls))
    return unknown(Type.DELIVERING, (Reason.NO_TRAFFIC, "no mail for these domains yet"))


def _told(last: LastTLS) -> str:
    if last.protocol is None:
        return f"last to {last.host} in clear text"
    checked = f"verified as {last.matched_name}" if last.verified else "not verified"
    return f"last to {last.host} over {last.protocol}, {checked}"
