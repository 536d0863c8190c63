"""Delivery of one worker: takes what is due out of the spool, and opens sessions for it.

Called by the worker: `apply` with every new set, `run` for as long as it lives, `close` at the end.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from letterlock_gateway.counters import Tally
from letterlock_gateway.deliver import retry, shares
from letterlock_gateway.deliver.clocks import Clocks
from letterlock_gateway.deliver.lanes import Lane, Lanes
from letterlock_gateway.deliver.lookups import Lookups
from letterlock_gateway.deliver.rates import Rates
from letterlock_gateway.deliver.session import Session
from letterlock_gateway.deliver.settling import Settling
from letterlock_gateway.deliver.terms import Terms, Timeouts
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.outcomes import Outcomes
from letterlock_gateway.running import RunningSet
from letterlock_gateway.spool import Spool, SpoolClosed, SpoolFailed, Waiting
from letterlock_gateway.spool.numbers import NUMBER_STEP

# Recipients in memory at a time, about 1 KB each.
_MAX_RECIPIENTS: Final = 20_000
# Connections of one worker; each is a file descriptor, and listeners need some too.
_MAX_SESSIONS: Final = 500
# Seconds that a connection waits for the next message to the same domain, as Postfix's connection cache does.
_IDLE: Final = 2.0
# Recipients of one domain that are fetched at a time, where more wait than there is room for.
_REFILL: Final = 100
# Domains whose terms are remembered; they are made again quickly.
_MAX_TERMS: Final = 10_000
# Seconds for transactions under way at the end.
_CLOSE_GRACE: Final = 10.0
# Seconds between rounds at most: so long it may take until it is noticed that the clock was set.
_ROUND: Final = 15.0
# Seconds until a spool that could not be read is asked again.
_READ_AGAIN: Final = 1.0


class Delivery:
    """See the module."""

    def __init__(
        self,
        spool: Spool,
        log: Log,
        outcomes: Outcomes,
        clock: Callable[[], float],
        *,
        tally: Tally | None = None,
        timeouts: Timeouts | None = None,
        idle: float = _IDLE,
    ) -> None:
        """`clock` gives Unix seconds; `idle`: seconds that a connection is kept for the next message.

        `tally`: what all workers count together; None: there are no others.
        """
        self.spool = spool
        self.mail_log = log
        self.clock = clock
        self.timeouts = timeouts or Timeouts()
        self.settling = Settling(spool, log, outcomes, clock)
        self.rates = Rates(tally)
        self._closing = False
        self._held = False
        self._clocks = Clocks(clock(), time.monotonic())
        self._idle_seconds = idle
        self._lanes = Lanes()
        self._shares = shares.Shares(tally)
        self._held_back = False
        self._unreadable = False
        self._running: RunningSet | None = None
        self._terms: dict[str, Terms] = {}
        self._lookups = Lookups()
        self._dcid = spool.number
        self._sessions: set[asyncio.Task[None]] = set()
        self._settling_tasks: set[asyncio.Task[None]] = set()
        self._waiters: dict[str, list[asyncio.Event]] = {}

    @property
    def closing(self) -> bool:
        """Whether nothing new is to be taken up: at the end, while held, and while the spool cannot be written.

        What is sent then would be sent again after a restart.
        """
        return self._closing or self._held or self.settling.stuck

    def apply(self, running: RunningSet) -> None:
        """Deliver by `running` from now on: the next message of every connection already does."""
        first, self._running = self._running is None, running
        self._terms.clear()
        self.settling.delivery = delivery = running.snapshot.delivery
        if (tuple(delivery.resolvers), delivery.address_family) != (
            self._lookups.resolvers,
            self._lookups.family,
        ):
            self._lookups = Lookups(delivery.resolvers, delivery.address_family)
        self._wake_all()
        if first:  # the clock may have been set while nobody was here
            self._bring_forward()
        self.spool.stored.set()

    async def run(self) -> None:
        """Deliver until `close`."""
        while not self._closing:
            self.spool.stored.clear()
            self._look_at_the_clock()
            try:
                await self._fill()
                self._open_sessions()
                wait = await self._pause()
            except SpoolClosed:
                return
            except SpoolFailed as failure:
                if not self._unreadable:
                    self.mail_log.error(f"The spool cannot be read, it is tried again: {failure}")
                self._unreadable = True
                await asyncio.sleep(_READ_AGAIN)
                continue
            self._unreadable = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.spool.stored.wait()

    async def close(self) -> None:
        """Take up nothing new, finish the transactions under way, and end."""
        self._closing = True
        self.settling.close()
        self._wake_all()
        self.spool.stored.set()
        if self._sessions:
            await asyncio.wait(set(self._sessions), timeout=_CLOSE_GRACE)
        for task in self._sessions:
            task.cancel()
        while pending := {*self._sessions, *self._settling_tasks}:
            await asyncio.wait(pending)

    @property
    def sessions(self) -> int:
        """Sessions that work now, each with one connection at most."""
        return len(self._sessions)

    # What sessions use (session.Shared).

    def terms(self, domain: str) -> Terms:
        """Today's terms for `domain`; the same object until a new set comes."""
        if self._running is None:
            raise RuntimeError("a session without a set")
        found = self._terms.get(domain)
        if found is None:
            if len(self._terms) >= _MAX_TERMS:
                self._terms.clear()
            found = self._terms[domain] = Terms.of(self._running, domain)
        return found

    def lookups(self) -> Lookups:
        """Today's look-ups."""
        return self._lookups

    def new_dcid(self) -> int:
        """A number for a connection; those of one member's workers never meet, as in the spool."""
        self._dcid += NUMBER_STEP
        return self._dcid

    def crowded_out(self, lane: Lane) -> bool:
        """Whether a session of `lane` must make room: other workers wait for connections to its domain."""
        limit = self.terms(lane.domain).policy.connections
        return self._shares.too_many(lane.domain, limit, self.clock())

    async def idle(self, lane: Lane) -> None:
        """Return when there may be a job in `lane`, or its connection shall be kept no longer."""
        if self._crowded():
            return
        event = asyncio.Event()
        waiters = self._waiters.setdefault(lane.domain, [])
        waiters.append(event)
        lane.idle += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._idle_seconds):
                    await event.wait()
        finally:
            lane.idle -= 1
            if event in waiters:
                waiters.remove(event)
            if not waiters and self._waiters.get(lane.domain) is waiters:
                del self._waiters[lane.domain]

    def wake_one(self, lane: Lane) -> None:
        """A session of `lane` that is idle has something to do."""
        waiters = self._waiters.get(lane.domain)
        if waiters:
            waiters.pop(0).set()

    def settle(self, lane: Lane, count: int, work: Coroutine[Any, Any, None]) -> None:
        """Have `work` done in the background; `count` recipients of `lane` leave memory with it."""
        task = asyncio.get_running_loop().create_task(work, name="settling")
        self._settling_tasks.add(task)
        task.add_done_callback(lambda done: self._settled(done, lane, count))

    # What a member that is to go asks for (handover).

    def hold(self) -> None:
        """Take up nothing new until `go_on`. What waits in memory goes back to the spool; may be called again."""
        self._held = True
        self._wake_all()
        for lane, rids in self._lanes.withdraw(self._lanes.waiting_rids()):
            self._lanes.settled(lane, len(rids))
            self._lanes.drop(lane)
            self.spool.release(rids)

    def go_on(self) -> None:
        """Deliver again."""
        self._held = False
        self.spool.stored.set()

    # What an administrator asks for (manage.queue).

    async def delete(self, chosen: Sequence[Waiting], reason: str) -> list[int]:
        """Finish those of `chosen` that wait, without telling anybody. Gives them; the others are under way.

        Raises SpoolFailed.
        """
        withdrawn = self._lanes.withdraw({one.rid for one in chosen})
        taken = {rid for _, some in withdrawn for rid in some}
        waiting = [one.rid for one in chosen if one.rid in taken or self.spool.waits(one.rid)]
        try:
            await self.spool.delete(waiting, reason=reason)
        except SpoolFailed:
            self.spool.release(list(taken))
            raise
        finally:
            for lane, some in withdrawn:
                self._lanes.settled(lane, len(some))
                self._lanes.drop(lane)
        if self._running is not None:
            for domain in {one.domain for one in chosen}:
                self.settling.gone(self.terms(domain))
        return waiting

    # The scheduler.

    def _room(self) -> int:
        return _MAX_RECIPIENTS - self._lanes.recipients

    async def _fill(self) -> None:
        """Take what is due into the lanes."""
        if self._running is None or self._room() <= 0 or self.closing:
            return
        for queued in await self.spool.due(self.clock(), self._room(), self._room_for):
            self.wake_one(self._lanes.add(queued))

    def _room_for(self, domain: str) -> int:
        return self._lanes.room(domain, _MAX_RECIPIENTS)

    def _look_at_the_clock(self) -> None:
        jump = self._clocks.jumped(self.clock(), time.monotonic())
        if jump:
            self.mail_log.warning(
                f"The clock was set {'forward' if jump > 0 else 'back'} by {abs(jump):.0f} s"
            )
            self._lanes.resume()
            self._bring_forward()

    def _bring_forward(self) -> None:
        """Nothing waits for longer than the schedule's longest interval, wherever the clock stood."""
        latest = self.clock() + self.settling.delivery.retry.max * (1 + retry.JITTER)
        if moved := self.spool.no_later_than(latest):
            self.mail_log.warning(
                f"{moved} recipients waited for a time too far ahead: they are tried earlier"
            )

    async def _pause(self) -> float | None:
        """Seconds until there is more to do; None: until woken."""
        if self._running is None or self.closing:
            return None
        now = self.clock()
        upcoming = [self._lanes.next_resumed()]
        if self._held_back:  # nobody tells us when another worker gives a connection back
            upcoming.append(now + shares.AGAIN)
        if self._room() > 0:  # else woken when some are settled
            upcoming.append(await self.spool.next_due())
        wait = min((at for at in upcoming if at is not None), default=now + _ROUND) - now
        return min(max(wait, 0.0), _ROUND)

    def _open_sessions(self) -> None:
        if self._running is None or self.closing:
            return
        now = self.clock()
        self._held_back = False
        for lane in self._lanes.waiting(now):
            if self._crowded():
                break
            limit = self.terms(lane.domain).policy.connections
            while lane.wants_session(min(limit, self._lanes.share(lane, _MAX_SESSIONS))):
                if not self._shares.open(lane.domain, limit, now):
                    self._held_back = True
                    break
                self._open_session(lane)
        if self._crowded():
            self._wake_all()  # connections that wait for nothing in particular make room

    def _open_session(self, lane: Lane) -> None:
        self._lanes.joined(lane)
        name = f"delivery to {lane.domain}"
        task = asyncio.get_running_loop().create_task(Session(self, lane).run(), name=name)
        self._sessions.add(task)
        task.add_done_callback(lambda done: self._session_ended(done, lane))

    def _session_ended(self, task: asyncio.Task[None], lane: Lane) -> None:
        self._sessions.discard(task)
        self._lanes.left(lane)
        self._shares.close(lane.domain)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.mail_log.error(f"Delivery to {lane.domain} ended: {problem!r}")
        if self._closing:
            return
        self._lanes.drop(lane)
        self.spool.stored.set()  # another lane may have waited for the room

    def _settled(self, task: asyncio.Task[None], lane: Lane, count: int) -> None:
        self._settling_tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            # Leases stay: nothing is lost, and a restart takes it up again.
            self.mail_log.error(f"Results of deliveries could not be written down: {problem!r}")
        full = self._lanes.recipients >= _MAX_RECIPIENTS
        self._lanes.settled(lane, count)
        if full or (self.spool.waits_for_room(lane.domain) and self._refill(lane)):
            self.spool.stored.set()

    def _refill(self, lane: Lane) -> bool:
        """Whether it is worth a round to fetch more for a lane that more waits for."""
        return not lane.recipients or self._room_for(lane.domain) >= _REFILL

    def _crowded(self) -> bool:
        return len(self._sessions) >= _MAX_SESSIONS

    def _wake_all(self) -> None:
        for waiters in self._waiters.values():
            for event in waiters:
                event.set()
            waiters.clear()
        self._waiters.clear()
