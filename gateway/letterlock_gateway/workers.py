"""The supervisor's side of one worker: starts the process (again when it dies), hands it sets, hears it.

Called by `supervisor` before anything that takes long to import, so that workers load while the supervisor
does.
"""

import asyncio
import contextlib
import signal
import socket
import time
from typing import Any, Final

from letterlock_gateway import channel
from letterlock_gateway.counters import Tally
from letterlock_gateway.nursery import Child, Nursery, NurseryLost
from letterlock_gateway.options import Options
from letterlock_gateway.report.log import Log

# Seconds before a worker that died is started again: at once the first time, then slower, so that one that
# cannot run at all does not keep the machine busy.
_RESTART_DELAYS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_LONG_ENOUGH: Final = 30.0  # seconds of life after which the next death counts as a first one
_MARGIN: Final = 3.0  # seconds beyond the grace period that a worker gets to close its spool

# What a worker said; None: it is gone, and its successor knows nothing yet.
type Heard = asyncio.Queue[tuple[int, channel.Message | None]]


class WorkerProcess:
    """One worker, kept running from `start` to `stop`. What it says goes into `heard`, with its number."""

    def __init__(
        self, number: int, options: Options, log: Log, nursery: Nursery, heard: Heard, tally: Tally
    ) -> None:
        self.number = number
        self._tally = tally
        self._options = options
        self._log = log.bind(worker=number)
        self._nursery = nursery
        self._heard = heard
        self._offer: bytes | None = None
        self._offered = asyncio.Event()
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._messages: channel.Channel | None = None
        self._orders: dict[int, asyncio.Future[channel.Message]] = {}
        self._count = 0
        self.had_spool = (options.spool / str(number)).is_dir()
        """Whether there was a spool before this member started."""

    def start(self) -> None:
        """Begin to keep it running."""
        self._task = asyncio.create_task(self._keep_running(), name=f"worker {self.number}")

    def offer(self, set_message: bytes) -> None:
        """Hand over a set (`channel.set_message`) soon, and to every process that takes its place later."""
        self._offer = set_message
        self._offered.set()

    async def ask(self, order: channel.Message) -> channel.Message | None:
        """What the worker says to an order about the queue; None: it does not run, or has died of it."""
        if self._messages is None:
            return None
        self._count += 1
        number = self._count
        answer = self._orders[number] = asyncio.get_running_loop().create_future()
        try:
            await self._messages.send(channel.encode({"kind": "order", "number": number, "order": order}))
            return await answer
        except asyncio.CancelledError:
            if answer.cancelled():  # the worker is gone; else it is we who are cancelled
                return None
            raise
        finally:
            del self._orders[number]

    async def stop(self) -> None:
        """End it: its sessions get the grace period; killed if it does not leave then."""
        self._stopping.set()
        self._offered.set()
        if self._task is None or await _within(self._task, self._options.grace + _MARGIN):
            return
        self._log.error(f"Worker {self.number} does not stop and is killed")
        if self._child is not None:
            self._nursery.kill(self._child)
        await _within(self._task, _MARGIN)

    async def _keep_running(self) -> None:
        deaths = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                status = await self._run_once()
            except NurseryLost:
                return  # the supervisor knows, and ends
            self._tally.release()
            if self._stopping.is_set():
                return
            self._heard.put_nowait((self.number, None))
            self._log.error(f"Worker {self.number} ended ({_in_words(status)}) and is started again")
            deaths = 0 if time.monotonic() - started > _LONG_ENOUGH else deaths
            delay = _RESTART_DELAYS[min(deaths, len(_RESTART_DELAYS) - 1)]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            deaths += 1

    async def _run_once(self) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            messages = await channel.Channel.open(ours)
            try:
                self._child = child = await self._nursery.fork(theirs)
                theirs.close()
                feeding = asyncio.create_task(self._feed(messages))
                try:
                    while (message := await messages.receive()) is not None:
                        if message["kind"] == "answer":
                            self._answered(message)
                        else:
                            self._heard.put_nowait((self.number, message))
                finally:
                    self._messages = None
                    for waiting in self._orders.values():
                        waiting.cancel()
                    feeding.cancel()
            finally:
                messages.close()
        # It is gone, or will never be heard again; in both cases its successor needs the spool.
        if not await _within(child.ended, _MARGIN):
            self._nursery.kill(child)
        return await child.ended

    def _answered(self, message: channel.Message) -> None:
        waiting = self._orders.get(message["number"])
        if waiting is not None and not waiting.done():
            waiting.set_result(message["answer"])

    async def _feed(self, messages: channel.Channel) -> None:
        start = {
            "kind": "start",
            "number": self.number,
            "table": self._tally.number,
            "options": self._options.to_json(),
        }
        await messages.send(channel.encode(start))
        self._messages = messages
        sent: bytes | None = None
        while True:
            if self._stopping.is_set():
                await messages.send(channel.encode({"kind": "stop"}))
                return
            if self._offer is not None and self._offer is not sent:
                sent = self._offer
                await messages.send(sent)
            await self._offered.wait()
            self._offered.clear()


async def _within(future: asyncio.Future[Any], seconds: float) -> bool:
    """Whether it is done within that time. It goes on in any case."""
    done, _ = await asyncio.wait({future}, timeout=seconds)
    return bool(done)


def _in_words(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
