"""Sends alerts (D10). Run by the supervisor, which hears all workers of the member.

What is due is decided by `report.alerts` and `report.endings`; here it is stored in the spool of a worker, and then
written down as told: a member that dies in between tells it again rather than never.

Failures of required TLS are told by the member that met them. What ends soon is the same on all members of a gateway:
the one of ordinal 0 tells it, so that it is told once.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import Final

from letterlock_api.mailgateway import AlertType, Severity
from letterlock_gateway.manage import in_use, told_file
from letterlock_gateway.manage.stored import NotStored
from letterlock_gateway.mount import MountedSet
from letterlock_gateway.report import alert_mail, alerts, endings
from letterlock_gateway.report.alert_mail import Alert
from letterlock_gateway.report.endings import Watched
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.metrics import Metrics
from letterlock_gateway.report.tls_failures import TLSFailure, merged
from letterlock_gateway.running import RunningSet
from letterlock_gateway.spool import NewMessage

# Seconds between looks at what ends, whatever the clock does.
_LOOK: Final = 3600.0
# Seconds until a message that no worker could store is tried again.
_STORE_AGAIN: Final = 2.0
# Seconds after a fault of ours.
_AFTER_FAULT: Final = 60.0
# Failures of a domain that were only counted are forgotten after so many periods without another one.
_FORGOTTEN: Final = 2


type Store = Callable[[NewMessage], Awaitable[int]]
"""Puts a message into the queue, and gives its number. Raises NotStored."""


class _Outcome(Enum):
    TOLD = auto()
    NOBODY = auto()
    """Everybody who would be told is in a domain that fails itself."""
    LATER = auto()
    """It could not be stored."""


class Alerting:
    """See the module. All methods are for the supervisor's event loop."""

    def __init__(
        self,
        spool: Path,
        log: Log,
        store: Store,
        failing: Callable[[], Collection[str]],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`failing`: domains that TLS fails for at present. `clock`: Unix seconds."""
        self._spool = spool
        self._log = log
        self._store = store
        self._failing = failing
        self._metrics = metrics
        self._clock = clock
        self._running: RunningSet | None = None
        self._watching: list[Watched] = []
        self._waiting: dict[str, TLSFailure] = {}
        self._problem = ""
        self._news = asyncio.Event()
        try:
            self._records = told_file.read(spool)
        except (OSError, ValueError) as problem:
            self._log.warning(f"Which alerts were sent cannot be read, some may come again: {problem}")
            self._records = told_file.Records()

    def use(self, running: RunningSet, mounted: MountedSet) -> None:
        """Send by this set from now on."""
        self._running = running
        self._watching = in_use.watched(mounted) if _tells_for_all(running.member) else []
        if not self._wants_failures(running):
            self._waiting = {}
            if running.snapshot.delivery.tls_alert:
                self._log.warning(
                    "delivery.tlsAlert is Enabled, but nobody in alerts.recipients takes Warning alerts of type System"
                )
        self._news.set()

    def failed(self, failures: Sequence[TLSFailure]) -> None:
        """What workers saw fail."""
        for one in failures:
            self._metrics.count(
                "letterlock_tls_required_failures_total",
                one.count,
                destination=one.resource,
                reason=one.reason,
            )
        if self._running is not None and self._wants_failures(self._running):
            self._waiting = merged(self._waiting, failures)
            self._news.set()

    async def run(self) -> None:
        """Send what is due, as long as the member lives."""
        while True:
            self._news.clear()
            try:
                wait = await self._round() if self._running is not None else None
            except Exception as problem:  # noqa: BLE001 - a fault of ours in here must not stop mail
                self._log.error(f"Alerts cannot be sent, what failed so far is only in the log: {problem!r}")
                self._waiting = {}  # else it would stand in the way of all that comes
                wait = _AFTER_FAULT
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    async def _round(self) -> float:
        """Send what is due; gives the seconds until there may be more."""
        now = self._clock()
        upcoming = [now + _LOOK, endings.next_step(self._watching, now)]
        upcoming.append(await self._tell_failures(now))
        upcoming.append(await self._tell_endings(now))
        return max(min(at for at in upcoming if at is not None) - now, 0.0)

    async def _tell_failures(self, now: float) -> float | None:
        """Tell of failures; gives when to go on, Unix seconds, if that is known."""
        due = alerts.due(self._waiting, self._records.told, now)
        for group in due.groups:
            domains = {one.domain for one in group}
            outcome = await self._tell(alert_mail.tls_failed(group), domains)
            if outcome is _Outcome.LATER:
                return now + _STORE_AGAIN
            told = self._records.told.after(group, now, sent=outcome is _Outcome.TOLD)
            self._waiting = _less(self._waiting, group)
            await self._remember(replace(self._records, told=told))
        for domain in due.bundled:
            counted = self._waiting.get(domain)
            if counted is not None and now - counted.at > _FORGOTTEN * alerts.PERIOD:
                del self._waiting[domain]
        return due.again

    async def _tell_endings(self, now: float) -> float | None:
        fresh = endings.due(self._watching, self._records.endings, now)
        groups: tuple[tuple[Severity, list[tuple[Watched, int]]], ...] = (
            ("Critical", [(one, step) for one, step in fresh if step == endings.ENDED]),
            ("Warning", [(one, step) for one, step in fresh if step != endings.ENDED]),
        )
        for severity, group in groups:
            if not group or not self._takers(severity, "System"):
                continue
            if (again := self._records.told.full_until(now)) is not None:
                return again
            outcome = await self._tell(alert_mail.ending(severity, group), ())
            if outcome is _Outcome.LATER:
                return now + _STORE_AGAIN
            if outcome is _Outcome.TOLD:
                known = endings.remembered(self._records.endings, group, now)
                told = self._records.told.after((), now, sent=True)
                await self._remember(told_file.Records(told, known))
        return None

    async def _tell(self, alert: Alert, domains: Collection[str]) -> _Outcome:
        """Put `alert` into the queue. `domains`: those that it is about."""
        running = self._running
        if running is None:
            return _Outcome.LATER
        snapshot = running.snapshot
        failing = {*domains, *self._failing()}
        to = alerts.addressees(snapshot.alerts, alert.severity, alert.kind, failing)
        origin = alert_mail.Origin(
            snapshot.gateway, snapshot.namespace, running.member, running.hostname, snapshot.alerts.sender
        )
        try:
            mids = [
                await self._store(one) for one in alert_mail.compose(alert, origin, to.kept, self._clock())
            ]
        except NotStored as problem:
            if str(problem) != self._problem:
                self._log.error(f"An alert cannot be stored yet ({alert.subject}): {problem}")
            self._problem = str(problem)
            return _Outcome.LATER
        self._problem = ""
        for one in to.left_out:
            self._log.warning(f"Alert not sent to <{one}>, whose own domain fails: {alert.subject}")
        if not mids:
            return _Outcome.NOBODY
        self._metrics.count("letterlock_alerts_total", severity=alert.severity, type=alert.kind)
        addresses = ", ".join(f"<{one}>" for one in to.kept)
        self._log.warning(
            f"MID {mids[0]} Alert {alert.severity} {alert.kind} to {addresses}: {alert.subject}", mid=mids[0]
        )
        return _Outcome.TOLD

    def _wants_failures(self, running: RunningSet) -> bool:
        return running.snapshot.delivery.tls_alert and self._takers("Warning", "System")

    def _takers(self, severity: Severity, kind: AlertType) -> bool:
        """Whether anybody takes such alerts. Who takes none later hears of what is so then."""
        if self._running is None:
            return False
        return bool(alerts.addressees(self._running.snapshot.alerts, severity, kind, ()).kept)

    async def _remember(self, records: told_file.Records) -> None:
        self._records = records
        try:
            await asyncio.to_thread(told_file.write, self._spool, records)
        except OSError as problem:
            self._log.warning(f"Sent alerts cannot be written down, a restart may repeat them: {problem}")


def _tells_for_all(member: str) -> bool:
    """Whether `member` is the one of its gateway that tells what all know: a StatefulSet always has ordinal 0."""
    ordinal = member.rpartition("-")[2]
    return ordinal == "0" or not ordinal.isdigit()


def _less(waiting: dict[str, TLSFailure], told: Sequence[TLSFailure]) -> dict[str, TLSFailure]:
    """`waiting` without what has been told; what came in meanwhile stays."""
    left = dict(waiting)
    for one in told:
        more = left[one.domain].count - one.count if one.domain in left else 0
        if more > 0:
            left[one.domain] = replace(left[one.domain], count=more)
        else:
            left.pop(one.domain, None)
    return left
