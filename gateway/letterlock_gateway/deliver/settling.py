"""What becomes of recipients after an attempt: spool, log, and what is reported. Called by `session`.

The order is always the same: first the spool, so that it is so, then the log, which says it. What a next hop
took is written down as often as it takes: until then nothing else is sent (`stuck`), since a restart would send
it again.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

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
from letterlock_gateway.report.tls_failures import TLSFailure
from letterlock_gateway.spool import Hop, NewMessage, Queued, Spool, SpoolClosed, SpoolFailed

# Seconds between tries to write an outcome down: the first at once, then slower.
_WRITE_AGAIN: Final = 0.1
_WRITE_AGAIN_AT_MOST: Final = 5.0
_LOST_BODY: Final = b"Subject: (the message cannot be read any more)\r\n\r\n"


class Settling:
    """Writes down what attempts came to."""

    def __init__(self, spool: Spool, log: Log, outcomes: Outcomes, clock: Callable[[], float]) -> None:
        self._spool = spool
        self._log = log
        self._outcomes = outcomes
        self._clock = clock
        self._unwritten = 0
        self._closing = asyncio.Event()
        self.delivery = SnapshotDelivery()
        """Retry schedule and bounces, of the running set."""

    @property
    def stuck(self) -> bool:
        """Whether an outcome could not be written down yet."""
        return self._unwritten > 0

    def close(self) -> None:
        """The end is near: what cannot be written now is not tried again."""
        self._closing.set()

    async def said(self, connection: Connection, job: Job, said: Said) -> None:
        """The next hop has answered for recipients of `job` (those in `said`)."""
        delivered = [(one, reply) for one in job.recipients if isinstance(reply := said.get(one.rid), Reply)]
        if delivered:
            await self._delivered(connection, job.mid, delivered)
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
            await self._deferred(terms, mid, [one for one, _ in several], several[0][1], failure, dcid)
        if bounced:
            await self._bounced(terms, mid, bounced, dcid)

    def record_failure(self, terms: Terms, failure: Failure) -> None:
        """No host took mail for the domain: it fails, for this reason."""
        if failure.permanent:
            self._outcomes.settled(terms.policy.resource, terms.domain)
            return
        reason = _word(failure)
        if failure.is_tls and terms.policy.tls_mode in outcomes_table.REQUIRING:
            self._outcomes.required_tls.record(
                TLSFailure(
                    domain=terms.domain,
                    resource=terms.policy.resource,
                    mode=terms.policy.tls_mode,
                    reason=reason,
                    text=failure.text,
                    host=failure.host,
                    at=self._clock(),
                )
            )
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

    def gone(self, terms: Terms) -> None:
        """Mail for the domain is gone, undelivered. It fails no more once none is left that waits."""
        if not self._spool.holds(terms.domain):
            self._outcomes.settled(terms.policy.resource, terms.domain)

    async def _delivered(
        self, connection: Connection, mid: int, delivered: Sequence[tuple[Queued, Reply]]
    ) -> None:
        rids = [one.rid for one, _ in delivered]
        reply = str(delivered[0][1])
        host, tls = connection.target.host.label, connection.tls
        hop = Hop(host, connection.target.address, tls.protocol, tls.cipher, tls.verified, tls.matched_name)
        notice = None
        # RFC 3461 section 5.2.2: a next hop that offers DSN tells for itself, or those behind it do.
        asking = (
            [] if "DSN" in connection.offered else [one for one in delivered if bounces.wants_success(one[0])]
        )
        if asking:
            with contextlib.suppress(SpoolFailed):  # then nobody is told; delivered it is
                start = (await self._spool.content(mid)).start
                notice = bounces.relayed(asking, host, start, self._common(connection.terms), self._clock())
        await self._write(
            lambda: self._spool.delivered(rids, hop=hop, reply=reply, notice=notice),
            f"MID {mid} was delivered, which could not be written down",
            mid,
        )
        self._log.counts.add(
            "letterlock_messages_delivered_total", tls.protocol or "", "yes" if tls.verified else "no"
        )
        self._log.info(
            f"Message done DCID {connection.dcid} MID {mid} to RID {rids} [{reply}]",
            dcid=connection.dcid,
            mid=mid,
            rid=rids,
            host=host,
            protocol=tls.protocol,
            verified=tls.verified,
        )

    async def _write(self, write: Callable[[], Awaitable[None]], what: str, mid: int) -> None:
        """Write until it is written: what went out must not go out again."""
        delay, failed = _WRITE_AGAIN, False
        try:
            while True:
                try:
                    await write()
                except SpoolFailed as failure:
                    if not failed:
                        self._log.error(f"{what}: {failure}", mid=mid)
                        failed = True
                        self._unwritten += 1
                    if self._closing.is_set() or isinstance(failure, SpoolClosed):
                        return  # still leased: sent again after a restart, rather twice than never
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(delay):
                            await self._closing.wait()
                    delay = min(delay * 2, _WRITE_AGAIN_AT_MOST)
                else:
                    return
        finally:
            if failed:
                self._unwritten -= 1
                self._spool.stored.set()

    async def _deferred(
        self, terms: Terms, mid: int, several: Sequence[Queued], again: float, failure: Failure, dcid: int
    ) -> None:
        rids = [one.rid for one in several]
        reason = f"{failure.status} {failure.text}"
        notice = await self._delay_notice(terms, mid, several, failure)
        try:
            await self._spool.deferred(
                rids, next_attempt=again, reason=reason, hop=_hop(failure), notice=notice
            )
        except SpoolFailed as problem:
            self._log.error(f"MID {mid}: a deferral could not be written down: {problem}", mid=mid)
        self._log.counts.add("letterlock_messages_deferred_total", _word(failure))
        self._log.info(
            f"Delayed: DCID {dcid} MID {mid} to RID {rids} - {reason}", dcid=dcid, mid=mid, rid=rids
        )
        if notice is not None:
            self._log.info(f"MID {mid} the sender is told of the delay", mid=mid)

    async def _delay_notice(
        self, terms: Terms, mid: int, several: Sequence[Queued], failure: Failure
    ) -> NewMessage | None:
        """What the sender is told once the message has waited for long enough (`bounce.delayNotice`)."""
        now, after = self._clock(), self.delivery.delay_notice
        late = [one for one in several if bounces.wants_delay(one) and now - one.queued_at >= after > 0]
        if not late:
            return None
        try:
            start = (await self._spool.content(mid)).start
        except SpoolFailed:
            return None  # with the next deferral, perhaps
        return bounces.delay(
            late, failure, start, self._common(terms), now, give_up_after=self.delivery.retry.give_up_after
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
        body = b""
        if any(bounces.wanted(queued) for queued, _ in several):
            try:
                content = await self._spool.content(mid)
                # What is too large goes back as what is protected does: its header alone, so no more is read.
                protected = protected or content.size > self.delivery.bounce_max_size
                body = content.start if protected else await self._spool.body(mid)
            except SpoolFailed as problem:
                self._log.error(f"MID {mid}: {problem}", mid=mid)
                body = _LOST_BODY
        notice = bounces.notice(several, body, self._common(terms), self._clock(), protected=protected)
        reason = f"{failure.status} {failure.text}"
        try:
            await self._spool.bounced(rids, reason=reason, notice=notice, hop=_hop(failure))
        except SpoolFailed as problem:
            # Not lost and not stuck: delivery is tried again, and comes to the same end when there is room.
            self._log.error(f"MID {mid}: a bounce could not be stored: {problem}", mid=mid)
            with contextlib.suppress(SpoolFailed):
                await self._spool.deferred(
                    rids,
                    next_attempt=self._clock() + self.delivery.retry.initial,
                    reason=reason,
                    hop=_hop(failure),
                )
            return
        self.gone(terms)
        self._log.counts.add("letterlock_messages_bounced_total", _word(failure))
        for queued, why in several:
            self._log.info(
                f"Bounced: DCID {dcid} MID {mid} to RID {queued.rid} - {why.status} {why.text}",
                dcid=dcid,
                mid=mid,
                rid=queued.rid,
            )
        if notice is None:
            self._log.info(f"MID {mid} no bounce is sent: the sender is not to be told", mid=mid)

    def _common(self, terms: Terms) -> bounces.Terms:
        return bounces.Terms(terms.hostname, self.delivery.bounce_from or "", self.delivery.bounce_max_size)

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


def _word(failure: Failure) -> Reason:
    """The one word for it."""
    return outcomes_table.word(failure.event) if failure.event else Reason.UNREACHABLE


def _hop(failure: Failure) -> Hop:
    """Where it failed, for tracking."""
    return Hop(failure.host or None, failure.address or None)
