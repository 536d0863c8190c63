"""What the operator counts, for Prometheus: served beside `/healthz` (`main`).

Counted by `api` (requests) and `reconcile` (decisions, and how the members do). Labels are names of namespaces and
gateways, verbs and status codes: nothing that strangers choose.
"""

from collections.abc import Mapping
from typing import Final

from letterlock_api.mailgateway import MailGatewayStatus
from letterlock_api.metrics import Family, Metrics

_GATEWAY: Final = ("namespace", "gateway")
FAMILIES: Final = {
    "letterlock_operator_api_requests_total": Family(
        "counter", "Requests to the API server; code 0: it could not be reached.", ("verb", "code")
    ),
    "letterlock_operator_decisions_total": Family("counter", "Decisions about a namespace."),
    "letterlock_operator_decision_seconds_total": Family(
        "counter", "Seconds that decisions took, from what was seen to what shall be."
    ),
    "letterlock_operator_failures_total": Family("counter", "Passes that failed and were tried again."),
    "letterlock_members": Family("gauge", "Members that exist.", _GATEWAY),
    "letterlock_members_ready": Family("gauge", "Members that are ready.", _GATEWAY),
    "letterlock_members_behind": Family("gauge", "Members that do not run the current snapshot.", _GATEWAY),
    "letterlock_members_queue_length": Family("gauge", "Recipients that wait, on all members.", _GATEWAY),
}


def metrics() -> Metrics:
    """Those of a new operator."""
    made = Metrics(FAMILIES)
    for name in ("decisions_total", "decision_seconds_total", "failures_total"):
        made.count(f"letterlock_operator_{name}", 0)
    return made


def tell(into: Metrics, namespace: str, statuses: Mapping[str, MailGatewayStatus]) -> None:
    """How the gateways of a namespace do now, by name."""
    for gateway, status in statuses.items():
        labels = {"namespace": namespace, "gateway": gateway}
        members = status.members or []
        behind = sum(one.snapshot != status.snapshot for one in members)
        into.gauge("letterlock_members", status.replicas or 0, **labels)
        into.gauge("letterlock_members_ready", status.ready_replicas or 0, **labels)
        into.gauge("letterlock_members_behind", behind, **labels)
        into.gauge("letterlock_members_queue_length", sum(one.queue or 0 for one in members), **labels)


def forget(into: Metrics, namespace: str, kept: Mapping[str, object]) -> None:
    """Gateways of a namespace that are no more: all but `kept`, by name."""
    for name in FAMILIES:
        if FAMILIES[name].labels == _GATEWAY:
            into.drop(name, lambda labels: labels[0] == namespace and labels[1] not in kept)
