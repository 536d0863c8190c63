"""One session: makes connections for one lane and sends its jobs, as long as there are any.

Started by `delivery`. A pass goes over the domain's next hops in order until one of them takes the mail; the
policy is looked up when a connection is made, and again, at once before MAIL, for every message.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol

from letterlock_gateway.deliver import failures, routing, transactions
from letterlock_gateway.deliver.connecting import Connection, Connector, GivenUp
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.lanes import Job, Lane
from letterlock_gateway.deliver.lookups import Lookups
from letterlock_gateway.deliver.nexthops import NextHost, NotNow, Undeliverable
from letterlock_gateway.deliver.rates import Rates
from letterlock_gateway.deliver.settling import Settling
from letterlock_gateway.deliver.terms import Terms, Timeouts
from letterlock_gateway.report.log import Log
from letterlock_gateway.spool import Content, Spool, SpoolFailed


class Shared(Protocol):
    """What sessions get from `delivery`."""

    spool: Spool
    mail_log: Log
    settling: Settling
    rates: Rates
    timeouts: Timeouts
    clock: Callable[[], float]

    @property
    def closing(self) -> bool:
        """Whether nothing new is to be taken up."""
        ...

    def terms(self, domain: str) -> Terms:
        """Today's terms."""
        ...

    def lookups(self) -> Lookups:
        """Today's look-ups."""
        ...

    def new_dcid(self) -> int:
        """A number for a connection."""
        ...

    def crowded_out(self, lane: Lane) -> bool:
        """Whether a session of `lane` must make room for other workers."""
        ...

    async def idle(self, lane: Lane) -> None:
        """Return when there may be a job, or no connection shall be kept any longer."""
        ...

    def wake_one(self, lane: Lane) -> None:
        """A session that is idle has something to do."""
        ...

    def settle(self, lane: Lane, count: int, work: Coroutine[Any, Any, None]) -> None:
        """Have `work` done in the background; `count` recipients of `lane` leave memory with it."""
        ...


class _Then(Enum):
    DONE = auto()
    """The lane is empty."""
    AGAIN = auto()
    """A new pass, for what is left of the job, or the next one."""
    NEXT_HOST = auto()
    """The connection broke at its first message: the next host."""


@dataclass
class _Pass:
    """One way over the next hops."""

    terms: Terms
    lookups: Lookups
    failures: list[Failure] = field(default_factory=list[Failure])
    tried: int = 0
    connected: bool = False


_MAX_TRIES: Final = routing.MAX_TARGETS
# Seconds for QUIT and its reply, and for the peer to close.
_FAREWELL: Final = 5.0
# Seconds before the next connection is tried where no host let us in: what comes meanwhile waits, so that a host that
# is down is not asked for every message.
_BREATH: Final = 0.2
# The same where others are in: they see to what waits, and the host has said that it wants no more.
_CROWDED: Final = 5.0


class Session:
    """See the module."""

    def __init__(self, shared: Shared, lane: Lane) -> None:
        self._shared = shared
        self._lane = lane
        self._job: Job | None = None

    async def run(self) -> None:
        """Work until the lane is empty."""
        try:
            self._job = self._lane.take()
            while self._job is not None and not self._leaving():
                await self._pass()
        except Exception as problem:  # noqa: BLE001 - a fault of ours must not lose the lease of a message
            self._shared.mail_log.error(f"Delivery to {self._lane.domain} failed: {problem!r}")
            failure = Failure(False, "4.3.0", f"internal error: {type(problem).__name__}")
            if self._job is not None:
                self._fail(self._shared.terms(self._lane.domain), self._job, failure)
                self._job = None
        finally:
            if self._job is not None:  # leaving
                self._lane.put_back(self._job)

    async def _pass(self) -> None:
        domain = self._lane.domain
        way = _Pass(self._shared.terms(domain), self._shared.lookups())
        try:
            hosts = await routing.hosts(way.terms, way.lookups)
        except (NotNow, Undeliverable) as problem:
            way.failures.append(failures.of_look_up(problem))
            hosts = []
        for host in hosts:
            then = await self._host(way, host)
            if then is not _Then.NEXT_HOST:
                return
        if self._changed(way.terms):
            return  # another pass, on the new terms
        self._give_up(way)

    async def _host(self, way: _Pass, host: NextHost) -> _Then:
        try:
            targets = await routing.targets(host, way.lookups)
        except (NotNow, Undeliverable) as problem:
            way.failures.append(failures.of_look_up(problem, host.label))
            return _Then.NEXT_HOST
        for target in targets:
            if host.by == "MX" and way.tried >= _MAX_TRIES:
                break
            if self._shared.closing or self._changed(way.terms):
                return _Then.AGAIN
            way.tried += 1
            try:
                connection = await self._connector(way).connect(target)
            except GivenUp as given_up:
                way.failures.append(given_up.failure)
                continue
            way.connected = True
            self._lane.connected += 1
            self._lane.refused = False
            try:
                then = await self._serve(connection, way)
            finally:
                self._lane.connected -= 1
                connection.wire.quit()
                self._shared.mail_log.info(f"DCID {connection.dcid} close", dcid=connection.dcid)
            if then is not _Then.NEXT_HOST:
                return then
        return _Then.NEXT_HOST

    def _connector(self, way: _Pass) -> Connector:
        shared = self._shared
        return Connector(
            way.terms, way.lookups, shared.mail_log, shared.timeouts, shared.clock, shared.new_dcid
        )

    async def _serve(self, connection: Connection, way: _Pass) -> _Then:
        """Send jobs over `connection`, as long as it may be used."""
        most = way.terms.policy.messages_per_connection
        while self._job is not None:
            job = self._job
            try:
                content = await self._shared.spool.content(job.mid)
            except SpoolFailed as problem:
                self._fail(way.terms, job, Failure(False, "4.3.0", str(problem)))
                self._job = self._lane.take()
                continue
            if not self._usable(connection) or self._paused(way.terms, job):
                return _Then.AGAIN
            connection.messages += 1
            try:
                said = await self._send(connection, job, content)
            except transactions.Interrupted as interrupted:
                self._settle(connection, job, interrupted.said)
                rest = [one for one in job.recipients if one.rid not in interrupted.said]
                self._job = Job(job.mid, rest) if rest else self._lane.take()
                if not rest or connection.messages > 1:
                    return _Then.AGAIN
                way.failures.append(interrupted.failure)
                return _Then.NEXT_HOST
            self._settle(connection, job, said)
            self._job = self._lane.take()
            if connection.messages >= most and not self._leaving():
                # The next one is opened when the peer, who may count too, has let go of this one.
                await connection.wire.farewell(_FAREWELL)
                return _Then.AGAIN
            if not connection.wire.quiet or self._leaving():
                return _Then.AGAIN
            if self._job is None and not self._shared.closing:
                await self._shared.idle(self._lane)
                self._job = self._lane.take()
        return _Then.DONE

    async def _send(self, connection: Connection, job: Job, content: Content) -> transactions.Said:
        self._shared.mail_log.info(
            f"Delivery start DCID {connection.dcid} MID {job.mid} to RID {job.rids}",
            dcid=connection.dcid,
            mid=job.mid,
            rid=job.rids,
        )
        return await transactions.send(connection, job.recipients, content, self._shared.timeouts)

    def _usable(self, connection: Connection) -> bool:
        """Whether the next message may go over `connection`: it stands, and it was made on today's terms."""
        if self._shared.closing or self._changed(connection.terms):
            return False
        return connection.messages == 0 or connection.wire.quiet

    def _leaving(self) -> bool:
        return self._shared.closing or self._shared.crowded_out(self._lane)

    def _changed(self, terms: Terms) -> bool:
        today = self._shared.terms(self._lane.domain)
        return today is not terms and today != terms

    def _paused(self, terms: Terms, job: Job) -> bool:
        """Whether the limit of recipients per period holds `job` back; then it waits, and the lane with it."""
        policy = terms.policy
        if policy.recipients_count is None:
            return False
        until = self._shared.rates.take(
            terms.domain,
            len(job.recipients),
            count=policy.recipients_count,
            period=policy.recipients_period,
            now=self._shared.clock(),
        )
        if until:
            self._lane.put_back(job)
            self._lane.paused_until = until
            self._job = None
        return bool(until)

    def _give_up(self, way: _Pass) -> None:
        """No host took the job. Where none even let us in, what else waits for the domain waits longer too.

        Unless others are in: then the hosts take no more connections than they have, and those go on alone.
        """
        if self._job is None:
            return
        failure = failures.reported(way.failures)
        if not way.connected:
            self._lane.refused = True
            full = self._lane.connected > 0 and not failure.permanent
            until = self._shared.clock() + (_CROWDED if full else _BREATH)
            self._lane.paused_until = max(self._lane.paused_until, until)
            if full:
                self._lane.put_back(self._job)
                self._job = None
                self._shared.wake_one(self._lane)
                return
        self._shared.settling.record_failure(way.terms, failure)
        self._fail(way.terms, self._job, failure)
        self._job = self._lane.take()
        while not way.connected and self._job is not None:
            self._fail(way.terms, self._job, failure)
            self._job = self._lane.take()

    def _fail(self, terms: Terms, job: Job, failure: Failure) -> None:
        failed = [(one, failure) for one in job.recipients]
        self._shared.settle(self._lane, len(failed), self._shared.settling.failed(terms, job.mid, failed))

    def _settle(self, connection: Connection, job: Job, said: transactions.Said) -> None:
        if said:
            settling = self._shared.settling.said(connection, job, said)
            self._shared.settle(self._lane, len(said), settling)
