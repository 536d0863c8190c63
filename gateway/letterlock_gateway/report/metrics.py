"""What a member counts, for Prometheus. Kept by the supervisor, served beside the health answers.

Workers count in `Counts`: an addition of plain ints per event, handed to the supervisor with the next report (twice a
second at most). Labels never hold what strangers choose: a domain, an address, a reply.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from letterlock_api.metrics import CONTENT_TYPE, Family, Labels
from letterlock_api.metrics import Metrics as _Metrics
from letterlock_gateway.report.tls_sessions import Sessions

__all__ = ["CONTENT_TYPE", "FAMILIES", "TLS", "Counts", "Metrics"]

TLS: Final = "letterlock_tls_connections_total"
FAMILIES: Final = {
    "letterlock_member_info": Family("gauge", "1, with the version of the program.", ("version",)),
    "letterlock_member_ready": Family("gauge", "1 where every worker runs a set and takes mail, else 0."),
    "letterlock_snapshot_refused": Family(
        "gauge", "1 while a newer snapshot is refused and the last good one runs on, else 0."
    ),
    "letterlock_worker_restarts_total": Family("counter", "Workers that died and were started again."),
    "letterlock_connections_total": Family("counter", "Connections that listeners took.", ("listener",)),
    TLS: Family(
        "counter",
        "TLS of connections in and out. result: verified, encrypted (not verified), clear (TLS could not be had, "
        "and was not required), failed. result_type: as in RFC 8460, of outgoing ones.",
        ("direction", "listener", "result", "protocol", "reason", "result_type"),
    ),
    "letterlock_messages_accepted_total": Family(
        "counter", "Messages that listeners took; without a protocol: in clear text.", ("protocol",)
    ),
    "letterlock_messages_delivered_total": Family(
        "counter", "Messages that a next hop took.", ("protocol", "verified")
    ),
    "letterlock_messages_deferred_total": Family(
        "counter", "Attempts after which a message waits.", ("reason",)
    ),
    "letterlock_messages_bounced_total": Family("counter", "Messages that were given up.", ("reason",)),
    "letterlock_tls_required_failures_total": Family(
        "counter", "Attempts to deliver that failed in TLS, which was required.", ("destination", "reason")
    ),
    "letterlock_alerts_total": Family(
        "counter", "Alert messages that were put into the queue.", ("severity", "type")
    ),
    "letterlock_queue_length": Family("gauge", "Recipients that wait."),
    "letterlock_queue_age_seconds": Family("gauge", "Age of the oldest message that waits; 0: none does."),
    "letterlock_spool_bytes": Family("gauge", "Size of the spools' databases."),
    "letterlock_spool_available_bytes": Family("gauge", "Room that is left where the spool lies."),
    "letterlock_certificate_expiry_timestamp_seconds": Family(
        "gauge", "When a certificate that this member uses ends, Unix time.", ("certificate",)
    ),
}


class Metrics(_Metrics):
    """All series of one member."""

    def __init__(self) -> None:
        super().__init__(FAMILIES)

    def take(self, counted: Iterable[Sequence[Any]]) -> None:
        """What a worker counted (`Counts.take`)."""
        for name, labels, amount in counted:
            self.add(name, tuple(labels), amount)


class Counts:
    """What one worker has counted since it last told. Called from one event loop."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        """Outgoing TLS sessions, for reports."""
        self._counted: dict[tuple[str, Labels], int] = {}

    def add(self, name: str, *labels: str) -> None:
        """One more; the labels' values in the order of `FAMILIES`."""
        key = (name, labels)
        self._counted[key] = self._counted.get(key, 0) + 1

    def take(self) -> list[tuple[str, Labels, int]]:
        """All since this was last asked."""
        counted, self._counted = self._counted, {}
        return [(name, labels, amount) for (name, labels), amount in counted.items()]
