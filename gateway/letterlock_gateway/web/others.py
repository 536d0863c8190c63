"""What the pages of other members say: a page shows the whole gateway, whichever member was asked for it.

Made by `site`. The supervisor carries questions to their supervisors (`manage.gathering`), by mutual TLS that this
process has no part in; where the others are is looked up here, where a name server that does not answer holds nobody
up but people who look at pages. An answer of another member is judged like that of a stranger.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from letterlock_api.snapshot import SnapshotMember
from letterlock_gateway.manage import control, gathering
from letterlock_gateway.options import Options
from letterlock_gateway.web.looks import Look, Part

# Seconds to find where a member is.
_NAME: Final = 2.0
# Seconds for an answer: from memory, and by a search through a spool that may hold millions.
_SECONDS: Final = {"state": 4.0, "told": 4.0, "waiting": 8.0, "traffic": 10.0, "find": 10.0}
# Questions at a time: the supervisor holds their answers in memory, of every member one.
_QUESTIONS: Final = 4
# Seconds more, after which our own supervisor is in trouble.
_CARRYING: Final = 5.0
# Seconds for which a member that was not reached is not tried again: not every page shall wait for it.
_NOT_AGAIN: Final = 5.0


class Others:
    """The other members of the gateway."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._unreached: dict[str, tuple[float, str]] = {}
        self._turns = asyncio.Semaphore(_QUESTIONS)

    async def ask[Value](
        self, members: Sequence[SnapshotMember], look: Look, read: Callable[[Any], Value]
    ) -> list[Part[Value]]:
        """What each of `members` says, in their order. `read` takes it from JSON; its ValueError: it says nonsense."""
        if not members:
            return []
        places = await asyncio.gather(*(self._place(one) for one in members))
        problems = {one.name: problem for one, (_, problem) in zip(members, places, strict=True) if problem}
        addresses = {one.name: at for one, (at, _) in zip(members, places, strict=True) if at}
        said = await self._said(addresses, look) if addresses else {}
        parts: list[Part[Value]] = []
        for one in members:
            answer = said.get(one.name, {"problem": problems.get(one.name, "no answer")})
            if answer.get("unreached"):
                self._unreached[one.host] = (time.monotonic() + _NOT_AGAIN, str(answer["problem"]))
            if "text" in answer:
                parts.append(await asyncio.to_thread(_part, one.name, str(answer["text"]), read))
            else:
                parts.append(Part(one.name, None, str(answer["problem"])))
        return parts

    async def _said(self, addresses: dict[str, str], look: Look) -> dict[str, Any]:
        seconds = _SECONDS[look.do]
        order = gathering.order(addresses, look.model_dump_json(exclude_defaults=True), seconds)
        try:
            async with self._turns, asyncio.timeout(seconds + _CARRYING):
                answer = await control.ask(self._options.spool, order)
        except (control.NotRunning, TimeoutError):
            return {}
        return answer["said"]

    async def _place(self, member: SnapshotMember) -> tuple[str, str]:
        """The address of a member, or why there is none."""
        until, problem = self._unreached.get(member.host, (0.0, ""))
        if time.monotonic() < until:
            return "", problem
        self._unreached.pop(member.host, None)
        try:
            async with asyncio.timeout(_NAME):
                found = await asyncio.get_running_loop().getaddrinfo(member.host, self._options.state_port)
            return str(found[0][4][0]), ""
        except TimeoutError:
            problem = f"no name server says in time where {member.host} is"
        except OSError as failure:
            problem = f"{member.host} is not known: {failure.strerror or failure}"
        self._unreached[member.host] = (time.monotonic() + _NOT_AGAIN, problem)
        return "", problem


def _part[Value](member: str, text: str, read: Callable[[Any], Value]) -> Part[Value]:
    try:
        return Part(member, read(json.loads(text)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Part(member, None, "its answer makes no sense here: another version?")
