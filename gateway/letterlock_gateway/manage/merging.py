"""One member's state from what its workers say. Pure; called by the supervisor for each question at `/state`.

A member does what all its workers do: it runs a snapshot, and listens, only when every worker does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from letterlock_api.destinationcontrol import FailingDomain
from letterlock_api.state import DestinationState, ListenerState, MemberState
from letterlock_gateway.report.outcomes import SHOWN
from letterlock_gateway.report.tls_failures import TLSFailure

STARTING: Final = "is starting"


@dataclass(frozen=True)
class Report:
    """What one worker said last."""

    snapshot: str = ""
    """Hash of the set it runs; empty: none."""
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of that set."""
    refused: str = ""
    """Hash of a set that it could not run though the supervisor could; empty: none."""
    refused_reason: str = ""
    problem: str = STARTING
    """What keeps it from working; empty: nothing."""
    listeners: tuple[ListenerState, ...] = ()
    queue: int = 0
    """Recipients in its spool; as last said, while it does not say."""
    drained: int = 0
    """The order under which it takes nothing in and holds nothing; 0: none."""
    destinations: Mapping[str, DestinationState] = field(default_factory=dict[str, DestinationState])
    recorded: Mapping[str, float] = field(default_factory=dict[str, float])
    """When each destination's last result came, Unix seconds: times in a state are cut to the second."""

    def updated(self, message: Mapping[str, Any], digests: Mapping[str, str]) -> Self:
        """The report after a message (`report_message`), which holds only destinations that changed."""
        destinations, recorded = dict(self.destinations), dict(self.recorded)
        for entry in message["destinations"]:
            state = DestinationState.model_validate(entry["state"])
            destinations.pop(state.resource, None)
            recorded.pop(state.resource, None)
            if state.last_tls is not None or state.failing:
                destinations[state.resource] = state
                recorded[state.resource] = entry["at"]
        return type(self)(
            snapshot=message["snapshot"],
            digests=digests,
            refused=message["refused"],
            refused_reason=message["refused_reason"],
            problem=message["problem"],
            listeners=tuple(ListenerState.model_validate(one) for one in message["listeners"]),
            queue=self.queue if message["queue"] is None else message["queue"],
            drained=message["drained"],
            destinations=destinations,
            recorded=recorded,
        )


def report_message(
    *,
    snapshot: str,
    refused: str,
    refused_reason: str,
    problem: str,
    listeners: Iterable[ListenerState],
    queue: int | None,
    drained: int = 0,
    destinations: Iterable[DestinationState],
    tls_failures: Iterable[TLSFailure] = (),
    counted: Sequence[object] = (),
    sessions: Sequence[object] = (),
) -> dict[str, Any]:
    """What a worker sends, for the channel. `queue` None: not known, its spool is not open."""
    return {
        "kind": "report",
        "snapshot": snapshot,
        "refused": refused,
        "refused_reason": refused_reason,
        "problem": problem,
        "listeners": [one.model_dump(mode="json") for one in listeners],
        "queue": queue,
        "drained": drained,
        "destinations": [
            {
                "at": one.last_tls.time.timestamp() if one.last_tls else 0.0,
                "state": one.model_dump(mode="json"),
            }
            for one in destinations
        ],
        "tls_failures": [one.to_json() for one in tls_failures],
        "counted": counted,
        "sessions": sessions,
    }


@dataclass(frozen=True)
class Refusal:
    """A set in the mount that was not taken."""

    hash: str
    reason: str


def merge(
    member: str,
    workers: Mapping[int, Report],
    *,
    version: str = "",
    refusal: Refusal | None = None,
    problems: Iterable[str] = (),
) -> MemberState:
    """The state of `member`. `workers` by number; `refusal` and `problems`: the supervisor's own."""
    reports = list(workers.values())
    snapshots = {report.snapshot for report in reports}
    if refusal is None:
        refusal = next((Refusal(r.refused, r.refused_reason) for r in reports if r.refused), Refusal("", ""))
    return MemberState(
        member=member,
        version=version,
        snapshot=snapshots.pop() if len(snapshots) == 1 else "",
        refused=refusal.hash,
        refused_reason=refusal.reason,
        digests=_digests(reports),
        listeners=_listeners(workers),
        destinations=_destinations(reports),
        queue=sum(report.queue for report in reports),
        drained=_drained(reports),
        problems=[
            *problems,
            *(f"worker {number} {one.problem}" for number, one in sorted(workers.items()) if one.problem),
        ],
    )


def _drained(reports: list[Report]) -> int:
    """The order under which every worker is empty."""
    orders = {report.drained for report in reports}
    return orders.pop() if len(orders) == 1 and not any(report.queue for report in reports) else 0


def _digests(reports: list[Report]) -> dict[str, str]:
    """What every worker that serves anybody runs.

    A worker on its way up, or from one set to the next, thus takes nothing away that holds on all the others.
    """
    running = [report.digests for report in reports if report.snapshot]
    if not running:
        return {}
    first, *others = running
    if all(other is first for other in others):
        return dict(first)
    return {key: digest for key, digest in first.items() if all(one.get(key) == digest for one in others)}


def _listeners(workers: Mapping[int, Report]) -> list[ListenerState]:
    names = sorted({one.name for report in workers.values() for one in report.listeners})
    return [_listener(name, workers) for name in names]


def _listener(name: str, workers: Mapping[int, Report]) -> ListenerState:
    problem: str | None = None
    listening = True
    for number, report in sorted(workers.items()):
        state = next((one for one in report.listeners if one.name == name), None)
        if state is not None and state.listening:
            continue
        listening = False
        said = state.problem if state is not None else None
        problem = problem or said or f"worker {number} {report.problem or 'does not listen yet'}"
    return ListenerState(name=name, listening=listening, problem=problem)


def _destinations(reports: list[Report]) -> list[DestinationState]:
    resources = sorted({resource for report in reports for resource in report.destinations})
    return [_destination(resource, reports) for resource in resources]


def _destination(resource: str, reports: list[Report]) -> DestinationState:
    """The latest result of all workers, and every domain that fails on any, since the first saw it."""
    last = max(
        (report for report in reports if resource in report.recorded),
        key=lambda report: report.recorded[resource],
    ).destinations[resource]
    failing: dict[str, FailingDomain] = {}
    for report in reports:
        state = report.destinations.get(resource)
        for one in state.failing if state else ():
            known = failing.get(one.domain)
            if known is None or one.since < known.since:
                failing[one.domain] = one
    ordered = sorted(failing.values(), key=lambda one: (one.since, one.domain))
    return DestinationState(resource=resource, last_tls=last.last_tls, failing=ordered[:SHOWN])
