"""The supervisor's side of the pages: a process that runs while the snapshot asks for it, and again when it dies.

Called by `member`. Nothing that happens to it touches mail: it is a program of its own, less urgent than the workers
and bounded in memory (`__main__`), and what it says is heard only here.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from dataclasses import dataclass
from itertools import count
from typing import Final

from letterlock_gateway import channel
from letterlock_gateway.manage.endpoints import NotAnswered
from letterlock_gateway.options import Options
from letterlock_gateway.report.log import Log

# Seconds before a process that died is started again.
_RESTART_DELAYS: Final = (0.2, 1.0, 2.0, 5.0, 15.0)
_LONG_ENOUGH: Final = 60.0  # seconds of life after which the next death counts as a first one
_STOP_SECONDS: Final = 3.0
_STARTING: Final = "HTTPS management is starting"


@dataclass(frozen=True)
class _Wanted:
    message: bytes
    served: str


class Pages:
    """Keeps the pages served. All methods are for the supervisor's event loop."""

    def __init__(self, options: Options, log: Log) -> None:
        self._options = options
        self._log = log
        self._wanted: _Wanted | None = None
        self._news = asyncio.Event()
        self._serves = ""
        self._problem: str = _STARTING
        self._left_out = ""
        self._heard_by: channel.Channel | None = None
        self._asked: dict[int, asyncio.Future[channel.Message]] = {}
        self._numbers = count()

    def use(self, message: bytes | None, served: str) -> None:
        """Serve by this from now on (`handed.message`, `handed.served`); None: serve nothing."""
        self._wanted = _Wanted(message, served) if message is not None else None
        self._left_out = ""
        self._news.set()

    def leave_out(self, problem: str) -> None:
        """Serve nothing, though it is wanted: `problem` says why."""
        self._wanted = None
        self._left_out = f"HTTPS management: {problem}"
        self._news.set()

    @property
    def current(self) -> bool:
        """Whether the pages are served as the set wants it; also where it wants none."""
        if self._left_out:
            return False
        return self._wanted is None or (self._serves == self._wanted.served and not self._problem)

    @property
    def problem(self) -> str:
        """For people: what keeps them from being served; empty: nothing."""
        if self._left_out:
            return self._left_out
        return "" if self._wanted is None else self._problem

    async def look(self, question: bytes) -> bytes:
        """What the pages of this member answer to another member's. Raises NotAnswered.

        They read the spools, and not this process: a question must not keep it from anything.
        """
        messages = self._heard_by
        if messages is None or not self._serves:
            raise NotAnswered(self.problem or "it serves no management pages")
        number = next(self._numbers)
        waiting = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            sent = channel.encode(
                {"kind": "look", "number": number, "question": question.decode(errors="replace")}
            )
            if not await messages.send(sent):
                raise NotAnswered("its management pages have ended")
            answer = await waiting
        finally:
            del self._asked[number]
        if answer["problem"]:
            raise NotAnswered(str(answer["problem"]))
        return str(answer["text"]).encode()

    async def run(self) -> None:
        """Until cancelled."""
        deaths = 0
        while True:
            await self._needed()
            started = time.monotonic()
            try:
                status = await self._run_once()
            except Exception as error:  # noqa: BLE001 - a fault of ours in here must not stop mail
                self._log.error(f"HTTPS management cannot be started: {error!r}")
                status = None
            self._serves, self._problem = "", _STARTING
            if self._wanted is None:
                deaths = 0
                continue
            if status is not None:
                self._log.error(f"HTTPS management ended ({_in_words(status)}) and is started again")
            deaths = 0 if time.monotonic() - started > _LONG_ENOUGH else deaths
            await asyncio.sleep(_RESTART_DELAYS[min(deaths, len(_RESTART_DELAYS) - 1)])
            deaths += 1

    async def _needed(self) -> None:
        while self._wanted is None:
            self._news.clear()
            await self._news.wait()

    async def _run_once(self) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            messages = await channel.Channel.open(ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "letterlock_gateway.web",
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
            except OSError:
                messages.close()
                raise
        self._heard_by = messages
        feeding = asyncio.create_task(self._feed(messages), name="pages")
        hearing = asyncio.create_task(self._hear(messages), name="pages heard")
        try:
            # Fed to the end: nothing is wanted any more. Heard to the end: it has gone.
            await asyncio.wait({feeding, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._heard_by = None
            feeding.cancel()
            hearing.cancel()
            await asyncio.gather(feeding, hearing, return_exceptions=True)
            messages.close()
            for one in self._asked.values():
                if not one.done():
                    one.set_result({"problem": "its management pages have ended"})
            status = await _ended(process)
        return status

    async def _feed(self, messages: channel.Channel) -> None:
        options = self._options.to_json()
        await messages.send(channel.encode({"kind": "start", "options": options}))
        sent: bytes | None = None
        while (wanted := self._wanted) is not None:
            if wanted.message is not sent:
                sent = wanted.message
                if not await messages.send(sent):
                    return
                continue
            self._news.clear()
            await self._news.wait()

    async def _hear(self, messages: channel.Channel) -> None:
        while (message := await messages.receive()) is not None:
            if message["kind"] == "answer":
                waiting = self._asked.get(message["number"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
                continue
            problem = str(message["problem"])
            if problem and problem not in self._problem:
                self._log.error(f"HTTPS management: {problem}")
            self._serves = str(message["served"])
            self._problem = f"HTTPS management: {problem}" if problem else ""


async def _ended(process: asyncio.subprocess.Process) -> int:
    """Its status. The channel is closed, which ends it; killed if it does not leave."""
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            return await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


def _in_words(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
