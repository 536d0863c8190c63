"""What becomes of recipients after an attempt: spool, log, and what is reported. Called by `session`.

The order is always the same: first the spool, so that it is so, then the log, which says it.
"""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from letterlock_api.conditions import Reason
from letterlock_api.destinationcontrol import LastTLS
from letterlock_api.snapshot import SnapshotDelivery
from letterlock_gateway.deliver import bounces, outcomes_table, retry
from letterlock_gateway.deliver.connecting import Connection
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.lanes import Job
from letterlock_gateway.deliver.replies import Reply
from letterlock_gateway.deliver.terms import Terms
from letterlock_gateway.deliver.transactions import Said
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.outcomes import Outcomes
from letterlock_gateway.spool import Queued, Spool, SpoolFailed


class Settling:
    """Writes down what attempts came to."""

    def __init__(self, spool: Spool, log: Log, outcomes: Outcomes, clock: Callable[[], float]) -> None:
        self._spool = spool
        self._log = log
        self._outcomes = outcomes
        self._clock = clock
        self.delivery = SnapshotDelivery()
        """Retry schedule and bounces, of the running set."""

    async def said(self, connection: Connection, job: Job, said: Said) -> None:
        """The next hop has answered for recipients of `job` (those in `said`)."""
        delivered = [one for one in job.recipients if isinstance(said.get(one.rid), Reply)]
        if delivered:
            await self._delivered(connection, job.mid, delivered, said)
        self._record_connection(connection, delivered=bool(delivered))
        failed: list[tuple[Queued, Failure]] = []
        for one in job.recipients:
            what = said.get(one.rid)
            if isinstance(what, Failure):
                failed.append((one, what))
        await self.failed(connection.terms, job.mid, failed, dcid=connection.dcid)

    async def failed(
        self, terms: Terms, mid: int, failed: Sequence[tuple[Queued, Failure]], *, dcid: int = 0
    ) -> None:
        """Recipients of message `mid` were not delivered: they wait, or bounce where that is final."""
        now = self._clock()
        bounced: list[tuple[Queued, Failure]] = []
        waiting: dict[Failure, list[tuple[Queued, float]]] = {}
        for queued, failure in failed:
            again = (
                None
                if failure.permanent
                else retry.next_attempt(
                    self.delivery.retry,
                    attempts=queued.attempts + 1,
                    queued_at=queued.queued_at,
                    now=now,
                    jitter=random.uniform(-1, 1),  # noqa: S311 - spreads load, guards nothing
                )
            )
            if again is None:
                bounced.append((queued, failure.final()))
            else:
                waiting.setdefault(failure, []).append((queued, again))
        for failure, several in waiting.items():
            await self._deferred(mid, [one for one, _ in several], several[0][1], failure, dcid)
        if bounced:
            await self._bounced(terms, mid, bounced, dcid)

    def record_failure(self, terms: Terms, failure: Failure) -> None:
        """No host took mail for the domain: it fails, for this reason."""
        if failure.permanent:
            self._outcomes.settled(terms.policy.resource, terms.domain)
            return
        reason = outcomes_table.word(failure.event) if failure.event else Reason.UNREACHABLE
        self._record(
            terms,
            LastTLS(
                time=self._moment(),
                member=terms.member,
                domain=terms.domain,
                host=failure.host,
                address=failure.address,
                result=reason,
                reason=failure.text,
            ),
        )

    async def _delivered(
        self, connection: Connection, mid: int, delivered: Sequence[Queued], said: Said
    ) -> None:
        rids = [one.rid for one in delivered]
        reply = str(said[rids[0]])
        try:
            await self._spool.delivered(
                rids,
                host=connection.target.host.label,
                reply=reply,
                protocol=connection.tls.protocol,
                verified=connection.tls.verified,
            )
        except SpoolFailed as failure:
            # Still leased: not sent again before a restart, and then rather twice than never.
            self._log.error(f"MID {mid} was delivered, which could not be written down: {failure}", mid=mid)
        self._log.info(
            f"Message done DCID {connection.dcid} MID {mid} to RID {rids} [{reply}]",
            dcid=connection.dcid,
            mid=mid,
            rid=rids,
            host=connection.target.host.label,
            protocol=connection.tls.protocol,
            verified=connection.tls.verified,
        )

    async def _deferred(
        self, mid: int, several: Sequence[Queued], again: float, failure: Failure, dcid: int
    ) -> None:
        rids = [one.rid for one in several]
        reason = f"{failure.status} {failure.text}"
        try:
            await self._spool.deferred(rids, next_attempt=again, reason=reason)
        except SpoolFailed as problem:
            self._log.error(f"MID {mid}: a deferral could not be written down: {problem}", mid=mid)
        self._log.info(
            f"Delayed: DCID {dcid} MID {mid} to RID {rids} - {reason}", dcid=dcid, mid=mid, rid=rids
        )

    async def _bounced(
        self, terms: Terms, mid: int, several: Sequence[tuple[Queued, Failure]], dcid: int
    ) -> None:
        first, failure = several[0]
        rids = [queued.rid for queued, _ in several]
        protected = (
            first.received_protocol is not None
            or terms.policy.tls_mode in outcomes_table.REQUIRING
            or any(one.over_tls for _, one in several)
        )
        common = bounces.Terms(terms.hostname, self.delivery.bounce_from or "", self.delivery.bounce_max_size)
        try:
            needed = any(bounces.wanted(queued) for queued, _ in several)
            body = await self._spool.body(mid) if needed else b""
            notice = bounces.notice(several, body, common, self._clock(), protected=protected)
            await self._spool.bounced(rids, reason=f"{failure.status} {failure.text}", notice=notice)
        except SpoolFailed as problem:
            self._log.error(f"MID {mid}: a bounce could not be stored: {problem}", mid=mid)
            later = self._clock() + self.delivery.retry.initial
            await self._deferred(mid, [queued for queued, _ in several], later, failure, dcid)
            return
        self._outcomes.settled(terms.policy.resource, terms.domain)
        for queued, why in several:
            self._log.info(
                f"Bounced: DCID {dcid} MID {mid} to RID {queued.rid} - {why.status} {why.text}",
                dcid=dcid,
                mid=mid,
                rid=queued.rid,
            )
        if notice is None:
            self._log.info(f"MID {mid} no bounce is sent: the sender is not to be told", mid=mid)

    def _record_connection(self, connection: Connection, *, delivered: bool) -> None:
        terms, tls = connection.terms, connection.tls
        if not delivered:
            # It answers, and over the TLS that was asked for: whatever it thinks of this message.
            self._outcomes.settled(terms.policy.resource, terms.domain)
            return
        self._record(
            terms,
            LastTLS(
                time=self._moment(),
                member=terms.member,
                domain=terms.domain,
                host=connection.target.host.label,
                address=connection.target.address,
                result=Reason.DELIVERED,
                protocol=tls.protocol,
                cipher=tls.cipher,
                verified=tls.verified,
                matched_name=tls.matched_name,
                name_source=tls.name_source,
                reason=tls.reason,
            ),
        )

    def _record(self, terms: Terms, last: LastTLS) -> None:
        self._outcomes.record(terms.policy.resource, last)

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
