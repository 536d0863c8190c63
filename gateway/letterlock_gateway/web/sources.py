"""Where the views have their facts from: what was handed over, the member's own door, its spools, other members.

Made by `site`, one for the process. What costs time is done beside the event loop, a little at a time, and remembered
for some seconds: reloading a page is no work.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from letterlock_api.snapshot import SnapshotMember
from letterlock_api.state import MemberState
from letterlock_gateway.manage import control, told_file
from letterlock_gateway.options import Options
from letterlock_gateway.spool import traffic
from letterlock_gateway.spool.tracking import Found, SpoolUnreadable, find, waiting
from letterlock_gateway.spool.traffic import Traffic
from letterlock_gateway.web import looks
from letterlock_gateway.web.facts import gateway
from letterlock_gateway.web.facts.gateway import Waiting
from letterlock_gateway.web.handed import Handed
from letterlock_gateway.web.looks import Look, Part, Search
from letterlock_gateway.web.others import Others

_STATE_FOR: Final = 2.0  # seconds
_STATE_SECONDS: Final = 5.0
_TRAFFIC_FOR: Final = 60.0
_UNREAD_FOR: Final = 2.0
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
    whole: Callable[[Value], bool] = lambda _: True
    """Whether it is worth that long; what is not is made again soon."""
    value: Value | None = None
    at: float = -1e9
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, make: Callable[[], Awaitable[Value]]) -> Value:
        async with self.lock:
            age = time.monotonic() - self.at
            if self.value is None or age >= (self.seconds if self.whole(self.value) else _UNREAD_FOR):
                self.value = await make()
                self.at = time.monotonic()
            return self.value


def _all_read(parts: Sequence[Part[Any]]) -> bool:
    return all(one.value is not None for one in parts)


class Sources:
    """Facts for the views."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._handed: Handed | None = None
        self._states: _Kept[list[Part[MemberState]]] = _Kept(_STATE_FOR)
        self._state: _Kept[MemberState] = _Kept(_STATE_FOR)
        self._days: _Kept[list[Part[Traffic]]] = _Kept(_TRAFFIC_FOR, _all_read)
        self._day: _Kept[Traffic] = _Kept(_TRAFFIC_FOR)
        self._readers = asyncio.Semaphore(_READERS)
        self._asking = asyncio.Lock()
        self._derived: dict[str, Any] = {}
        self._others = Others(options)

    def use(self, handed: Handed) -> None:
        """Speak of this set from now on."""
        self._handed = handed
        self._derived = {}
        # Members may have come or gone.
        self._states, self._days = _Kept(_STATE_FOR), _Kept(_TRAFFIC_FOR, _all_read)

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

    async def states(self) -> list[Part[MemberState]]:
        """What each member says of itself, some seconds old at most; of destinations that do well only this one's."""
        return await self._states.get(
            lambda: self._whole(Look(do="state"), self._own_state, gateway.read_state)
        )

    async def states_of(self, resources: Sequence[str]) -> list[Part[MemberState]]:
        """The same, with these destinations from every member."""
        if not self._members():
            return await self.states()
        look = Look(do="state", resources=list(resources))
        return await self._whole(look, self._own_state, gateway.read_state)

    async def days(self) -> list[Part[Traffic]]:
        """How mail came and went over the last day, by member."""
        look = Look(do="traffic")
        return await self._days.get(lambda: self._whole(look, self._own_day, gateway.read_traffic))

    async def find(self, search: Search, member: str = "") -> list[Part[list[dict[str, Any]]]]:
        """Messages (`letterlock track`), by member. `member`: of this one alone."""

        async def own() -> list[dict[str, Any]]:
            return await asyncio.to_thread(gateway.read_messages, await self._found(search))

        return await self._whole(Look(do="find", search=search), own, gateway.read_messages, member)

    async def waiting(self) -> list[Part[Waiting]]:
        """What waits, in sum, by member."""

        async def own() -> Waiting:
            return gateway.read_waiting(await self._read(waiting))

        return await self._whole(Look(do="waiting"), own, gateway.read_waiting)

    async def told(self) -> list[Part[dict[str, float]]]:
        """Which domains alerts told of, and when, by member."""
        return await self._whole(Look(do="told"), self._own_told, gateway.read_told)

    async def look(self, question: str) -> str:
        """The answer of this member to another one's pages (`looks`), as JSON. Raises NoAnswer."""
        try:
            look = Look.model_validate_json(question)
        except ValueError:
            raise NoAnswer("that is not a question that members answer: another version?") from None
        match look.do:
            case "state":
                found = looks.brief(await self._own_state(), look.resources).model_dump(
                    mode="json", by_alias=True
                )
            case "traffic":
                found = gateway.traffic_to_json(await self._own_day())
            case "waiting":
                found = await self._read(waiting)
            case "find":
                found = await self._found(look.search)
            case "told":
                found = await self._own_told()
        return json.dumps(found)

    def _members(self) -> list[SnapshotMember]:
        """The other members."""
        return [one for one in self.handed.snapshot.members if one.name != self.options.member]

    async def _whole[Value](
        self,
        look: Look,
        own: Callable[[], Awaitable[Value]],
        read: Callable[[Any], Value],
        member: str = "",
    ) -> list[Part[Value]]:
        """What all members say to `look`, in the order of the snapshot; `member`: only that one."""

        async def mine() -> Part[Value]:
            try:
                return Part(self.options.member, await own())
            except NoAnswer as problem:
                return Part(self.options.member, None, str(problem))

        others = [one for one in self._members() if not member or one.name == member]
        asked = self._others.ask(others, look, read)
        if member and member != self.options.member:
            return await asked
        here, there = await asyncio.gather(mine(), asked)
        order = {one.name: number for number, one in enumerate(self.handed.snapshot.members)}
        return sorted([here, *there], key=lambda one: order.get(one.member, -1))

    async def _own_state(self) -> MemberState:
        return await self._state.get(self._ask_state)

    async def _ask_state(self) -> MemberState:
        try:
            async with asyncio.timeout(_STATE_SECONDS):
                said = await control.ask(self.options.spool, {"do": control.STATE})
        except control.NotRunning as problem:
            raise NoAnswer(str(problem)) from None
        except TimeoutError:
            raise NoAnswer(f"its supervisor gives no answer within {_STATE_SECONDS:g} s") from None
        return await asyncio.to_thread(MemberState.model_validate, said["state"])

    async def _own_day(self) -> Traffic:
        async def make() -> Traffic:
            give_up = self.handed.snapshot.delivery.retry.give_up_after
            return await self._read(lambda spool: traffic.last_day(spool, time.time(), give_up))

        return await self._day.get(make)

    async def _own_told(self) -> dict[str, float]:
        try:
            records = await asyncio.to_thread(told_file.read, self.options.spool)
        except (OSError, ValueError) as problem:
            raise NoAnswer(f"which alerts it sent cannot be read: {problem}") from None
        latest = sorted(records.told.domains.items(), key=lambda one: -one[1])
        return dict(latest[: looks.ROWS])

    async def _found(self, search: Search) -> list[Found]:
        return looks.rows(await self._read(lambda spool: find(spool, search.query())), search)

    async def _read[Value](self, read: Callable[[Path], Value]) -> Value:
        """What `read` finds in this member's spools. Raises NoAnswer."""
        try:
            async with self._readers:
                return await asyncio.to_thread(read, self.options.spool)
        except SpoolUnreadable as problem:
            raise NoAnswer(str(problem)) from None

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
