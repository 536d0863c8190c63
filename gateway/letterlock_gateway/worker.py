"""One worker process: its own event loop, spool and deliveries, and listeners that share the ports.

Forked by the nursery, with one end of a socketpair. All it knows comes over that channel; what it counts for
limits is in memory that all workers share. When the supervisor dies the worker ends: the kernel tells it, and the
channel closes.
"""

import asyncio
import contextlib
import hashlib
import json
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import uvloop

from letterlock_api.snapshot import content_hash
from letterlock_api.state import ListenerState
from letterlock_gateway import channel
from letterlock_gateway.counters import Counters, Tally
from letterlock_gateway.deliver import Delivery
from letterlock_gateway.handover import taking
from letterlock_gateway.handover.leaving import Leaving
from letterlock_gateway.manage import queue, stored
from letterlock_gateway.manage.merging import report_message
from letterlock_gateway.mount import MountRefused, assemble
from letterlock_gateway.nursery import end_with_parent
from letterlock_gateway.options import Options
from letterlock_gateway.receive import Reception
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.outcomes import Outcomes
from letterlock_gateway.running import RunningSet
from letterlock_gateway.spool import Spool, SpoolFailed

# Seconds between looks at what changed: a state is at most this old, and a busy worker spends nothing on it.
_REPORT_EVERY: Final = 0.5
# Seconds between looks for what is too old to be tracked.
_PRUNE_EVERY: Final = 600.0
# Seconds until a listener that could not be opened is tried again.
_LISTEN_AGAIN: Final = 1.0
# The same for a spool: soon, as a predecessor is about to leave it; seldom, where a person has to do something.
_SPOOL_AGAIN: Final = 0.1
_SPOOL_AGAIN_AT_MOST: Final = 2.0
# Seconds for sessions in progress when the supervisor is gone: its successor waits for this spool and these
# ports.
_ORPHAN_GRACE: Final = 2.0


class Worker:
    """A worker from its first message to its end."""

    def __init__(self, number: int, options: Options, messages: channel.Channel, tally: Tally) -> None:
        self._number = number
        self._options = options
        self._messages = messages
        self._tally = tally
        self._log = Log(options.log_format, bound={"member": options.member, "worker": number})
        self._outcomes = Outcomes()
        self._stop = asyncio.Event()
        self._orphaned = False
        self._wanted: channel.Message | None = None
        self._news = asyncio.Event()
        self._problem = "is starting"
        self._running: RunningSet | None = None
        self._refused, self._refused_reason = "", ""
        self._listeners: list[ListenerState] = []
        self._spool: Spool | None = None
        self._delivery: Delivery | None = None
        self._leaving: Leaving | None = None
        self._orders: set[asyncio.Task[None]] = set()
        self._sent: Any = None

    async def run(self) -> None:
        """Work until the supervisor says stop, or is gone, or a part of the worker fails (then it raises)."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        listening = asyncio.create_task(self._listen(), name="channel")
        working = asyncio.create_task(self._work(), name="work")
        reporting = asyncio.create_task(self._report_regularly(), name="report")
        try:
            await working
            await self._report()
        finally:
            for task in (listening, reporting):
                task.cancel()

    async def _listen(self) -> None:
        while (message := await self._messages.receive()) is not None:
            if message["kind"] == "set":
                self._wanted = message
                self._news.set()
            elif message["kind"] == "order":
                order = asyncio.create_task(self._carry_out(message), name="order")
                self._orders.add(order)
                order.add_done_callback(self._orders.discard)
            elif message["kind"] == "stop":
                self._stop.set()
        self._orphaned = True
        # Should the end get stuck, the kernel's default action for this signal ends the process.
        signal.setitimer(signal.ITIMER_REAL, _ORPHAN_GRACE * 2 + 1)
        self._stop.set()

    async def _carry_out(self, message: channel.Message) -> None:
        """An order of an administrator about the queue, or the supervisor's to store a message."""
        if self._spool is None or self._delivery is None:
            answer: channel.Message = {"done": [], "busy": [], "problems": [self._problem]}
        elif message["order"]["do"] in (stored.DO, taking.DO):
            answer = await self._store(message["order"], self._spool)
        else:
            answer = await queue.carry_out(message["order"], self._spool, self._delivery, self._log)
        answered = {"kind": "answer", "number": message["number"], "answer": answer}
        await self._messages.send(channel.encode(answered))

    async def _store(self, order: channel.Message, spool: Spool) -> channel.Message:
        """A message that the supervisor made or got. A member that is to go takes none: it may have said "empty"."""
        if self._leaving is None or self._leaving.active or self._stop.is_set():
            return {"problem": "this member is about to go"}
        if self._running is None or not self._running.admitted:
            return {"problem": "this member may not take mail yet"}
        if order["do"] == taking.DO:
            return await taking.carry_out(order, spool, self._log)
        return await stored.carry_out(order, spool)

    async def _work(self) -> None:
        spool = await self._open_spool()
        if spool is None:
            return
        self._spool = spool
        self._problem = ""
        reception = Reception(spool, self._log, self._options, time.time, self._tally)
        delivery = Delivery(spool, self._log, self._outcomes, time.time, tally=self._tally)
        self._delivery = delivery
        self._leaving = leaving = Leaving(spool, delivery, reception, self._log, self._options)
        delivering = asyncio.create_task(delivery.run(), name="delivery")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        sets = asyncio.create_task(self._take_sets(reception, delivery, spool), name="sets")
        pruning = asyncio.create_task(self._prune(spool), name="prune")
        await asyncio.wait({delivering, stopping, sets}, return_when=asyncio.FIRST_COMPLETED)
        sets.cancel()
        pruning.cancel()
        grace = _ORPHAN_GRACE if self._orphaned else self._options.grace
        self._problem = "is stopping"
        await asyncio.gather(
            sets, pruning, leaving.close(), reception.close(grace), delivery.close(), return_exceptions=True
        )
        self._listeners = []
        delivering.cancel()
        stopping.cancel()
        (ended, *_) = await asyncio.gather(delivering, stopping, return_exceptions=True)
        await spool.close()
        for outcome in (ended, None if sets.cancelled() else sets.exception()):
            if isinstance(outcome, Exception):
                raise outcome

    async def _prune(self, spool: Spool) -> None:
        """Forget what can no longer be tracked, as long as the worker lives."""
        while True:
            if self._running is not None:
                retention = self._running.snapshot.delivery.tracking_retention
                try:
                    await spool.prune(time.time() - retention)
                except SpoolFailed as failure:
                    self._log.error(f"Old tracking entries could not be removed: {failure}")
            await asyncio.sleep(_PRUNE_EVERY if self._running is not None else _REPORT_EVERY)

    async def _open_spool(self) -> Spool | None:
        """The spool; None: told to stop first. A predecessor that still lives is waited for."""
        directory = self._options.spool / str(self._number)
        delay = _SPOOL_AGAIN
        while not self._stop.is_set():
            try:
                return await Spool.open(directory)
            except SpoolFailed as failure:
                if self._problem != (problem := f"waits for its spool: {failure}"):
                    self._problem = problem
                    self._log.warning(f"Spool cannot be opened yet: {failure}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)
            delay = min(delay * 1.5, _SPOOL_AGAIN_AT_MOST)
        return None

    async def _take_sets(self, reception: Reception, delivery: Delivery, spool: Spool) -> None:
        while True:
            retry = None if all(one.listening for one in self._listeners) else _LISTEN_AGAIN
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), retry)
            self._news.clear()
            message, self._wanted = self._wanted, None
            if message is not None:
                await self._take(message, reception, delivery, spool)
            elif self._running is not None:
                self._listeners = await reception.apply(self._running)
            await self._report()

    async def _take(
        self, message: channel.Message, reception: Reception, delivery: Delivery, spool: Spool
    ) -> None:
        content, files = channel.set_in(message)
        try:
            fresh = RunningSet.build(assemble(content, files), self._options.member)
            if self._leaving is not None:
                self._leaving.follow(fresh.drain)
            listeners = await reception.apply(fresh)
            delivery.apply(fresh)
        except MountRefused as refusal:  # the supervisor built it before, so this is most unlikely
            self._refused, self._refused_reason = refusal.hash, refusal.reason
            return
        except Exception as failure:  # noqa: BLE001 - a worker that died of a set would get it again
            self._refused = content_hash(content)
            self._refused_reason = f"{type(failure).__name__}: {failure}"
            self._log.error(f"Snapshot {self._refused} could not be run: {self._refused_reason}")
            return
        before, self._running = self._running, fresh
        self._listeners = listeners
        self._refused, self._refused_reason = "", ""
        self._outcomes.reassign(lambda domain: fresh.destination_for(domain).resource)
        await self._hasten(before, fresh, policy_hash(content), spool)

    async def _hasten(self, before: RunningSet | None, fresh: RunningSet, policy: str, spool: Spool) -> None:
        """What waits because of a policy that is no more is due now."""
        mark = self._options.spool / str(self._number) / "policy"
        try:
            known = mark.read_text() if mark.is_file() else None
            if known == policy:
                return
            if before is not None:
                await spool.hasten(changed_for(before, fresh))
            elif known is not None:  # it changed while this worker was not there to see it
                await spool.hasten()
            mark.write_text(policy)
        except (SpoolFailed, OSError) as failure:
            self._log.error(f"Deferred mail could not be made due: {failure}")

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            await self._report()

    async def _report(self) -> None:
        message = report_message(
            snapshot=self._running.hash if self._running else "",
            refused=self._refused,
            refused_reason=self._refused_reason,
            problem=self._problem,
            listeners=self._listeners,
            queue=self._spool.queue_length() if self._spool else None,
            drained=self._leaving.drained if self._leaving else 0,
            destinations=self._outcomes.take_changed(),
            tls_failures=self._outcomes.required_tls.take(),
            counted=self._log.counts.take(),
            sessions=self._log.counts.sessions.take(),
        )
        once: channel.Message = {"destinations": [], "tls_failures": [], "counted": [], "sessions": []}
        if {**message, **once} != self._sent or any(message[part] for part in once):
            self._sent = {**message, **once}
            await self._messages.send(channel.encode(message))


def policy_hash(content: bytes) -> str:
    """Changes with whatever decides how mail is delivered: destinations, trusted CAs, global settings.

    `content`: the bytes of `snapshot.json`; as JSON, since models of 10,000 destinations take 0.2 s to dump.
    """
    whole = json.loads(content)
    parts = [whole.get(part) for part in ("destinations", "delivery", "trust")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def changed_for(before: RunningSet, fresh: RunningSet) -> Callable[[str], bool] | None:
    """Which domains' mail is delivered otherwise in `fresh`; None: every domain's may be."""
    if (before.snapshot.trust, before.snapshot.delivery) != (fresh.snapshot.trust, fresh.snapshot.delivery):
        return None
    return lambda domain: before.destination_for(domain) != fresh.destination_for(domain)


async def _main(counters: Counters, end: socket.socket) -> None:
    messages = await channel.Channel.open(end)
    start = await messages.receive()
    if start is None:
        return
    end_with_parent(f"letterlock-w{start['number']}", signal.SIGTERM)
    _allow_descriptors()
    options = Options.from_json(start["options"])
    await Worker(start["number"], options, messages, counters.tally(start["table"])).run()


def _allow_descriptors() -> None:
    """As many as we may have: each connection takes one, and each message that comes in another."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run(counters: Counters, end: socket.socket) -> None:
    """Work in a process that the nursery has forked for it; `end`: of the channel to the supervisor."""
    uvloop.run(_main(counters, end))
