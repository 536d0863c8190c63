"""Where the views have their facts from: what was handed over, the member's own door, and its spools.

Made by `site`, one for the process. What costs time is done beside the event loop, a little at a time, and remembered
for some seconds: reloading a page is no work.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from letterlock_api.state import MemberState
from letterlock_gateway.manage import control
from letterlock_gateway.options import Options
from letterlock_gateway.spool import traffic
from letterlock_gateway.spool.tracking import Found, Query, SpoolUnreadable, find, waiting
from letterlock_gateway.spool.traffic import Traffic
from letterlock_gateway.web.handed import Handed

_STATE_FOR: Final = 2.0  # seconds
_STATE_SECONDS: Final = 5.0
_TRAFFIC_FOR: Final = 60.0
# Looks into the spools at a time, which mail's disk has to bear.
_READERS: Final = 2
# Seconds for what connects elsewhere, and how much it may say.
_ASKING: Final = 40.0
_ANSWER: Final = 4 * 1024 * 1024


class NoAnswer(Exception):  # noqa: N818 - says what is
    """A question that was not answered. The text says why."""


@dataclass
class _Kept[Value]:
    """A value that is worth some seconds, made once for all who wait for it."""

    seconds: float
    value: Value | None = None
    at: float = -1e9
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, make: Callable[[], Awaitable[Value]]) -> Value:
        async with self.lock:
            if self.value is None or time.monotonic() - self.at >= self.seconds:
                self.value = await make()
                self.at = time.monotonic()
            return self.value


class Sources:
    """Facts for the views."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._handed: Handed | None = None
        self._state: _Kept[MemberState] = _Kept(_STATE_FOR)
        self._traffic: _Kept[Traffic] = _Kept(_TRAFFIC_FOR)
        self._readers = asyncio.Semaphore(_READERS)
        self._asking = asyncio.Lock()
        self._derived: dict[str, Any] = {}

    def use(self, handed: Handed) -> None:
        """Speak of this set from now on."""
        self._handed = handed
        self._derived = {}

    @property
    def handed(self) -> Handed:
        """The set that is shown. Answers 503 where there is none."""
        if self._handed is None:
            raise web.HTTPServiceUnavailable
        return self._handed

    def derived[Value](self, name: str, make: Callable[[Handed], Value]) -> Value:
        """What is made of the set once, and kept while it is shown."""
        if name not in self._derived:
            self._derived[name] = make(self.handed)
        return self._derived[name]

    async def state(self) -> MemberState:
        """What the member says of itself, some seconds old at most. Answers 503 where it does not answer."""
        return await self._state.get(self._ask_state)

    async def _ask_state(self) -> MemberState:
        try:
            async with asyncio.timeout(_STATE_SECONDS):
                said = await control.ask(self.options.spool, {"do": control.STATE})
        except (control.NotRunning, TimeoutError):
            raise web.HTTPServiceUnavailable from None
        return await asyncio.to_thread(MemberState.model_validate, said["state"])

    async def traffic(self) -> Traffic:
        """How mail came and went over the last day."""

        async def make() -> Traffic:
            give_up = self.handed.snapshot.delivery.retry.give_up_after
            async with self._readers:
                return await asyncio.to_thread(traffic.last_day, self.options.spool, time.time(), give_up)

        return await self._traffic.get(make)

    async def find(self, query: Query) -> list[Found]:
        """Messages of this member (`letterlock track`). Answers 503 where a spool cannot be read."""
        try:
            async with self._readers:
                return await asyncio.to_thread(find, self.options.spool, query)
        except SpoolUnreadable:
            raise web.HTTPServiceUnavailable from None

    async def waiting(self) -> Found:
        """What waits in this member's queue, in sum. Answers 503 where a spool cannot be read."""
        try:
            async with self._readers:
                return await asyncio.to_thread(waiting, self.options.spool)
        except SpoolUnreadable:
            raise web.HTTPServiceUnavailable from None

    async def ask(self, request: str) -> dict[str, Any]:
        """What `manage.lookup` answers to a request (JSON), from a process of its own (`asking`). Raises NoAnswer."""
        if self._asking.locked():
            raise NoAnswer("Somebody else asks at this moment: try again.")
        async with self._asking:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "letterlock_gateway.web.asking",
                str(self.options.spool),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(_ASKING):
                    said, problem = await process.communicate(request.encode())
            except TimeoutError:
                raise NoAnswer("It takes too long: the hosts do not answer.") from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        if process.returncode != 0 or len(said) > _ANSWER:
            lines = problem.decode(errors="replace").strip().splitlines()
            raise NoAnswer(lines[-1][:300] if lines else "There was no answer.")
        return json.loads(said)
