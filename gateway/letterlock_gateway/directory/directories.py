"""The directories of one worker: servers in turn, a few connections each, answers remembered for a moment.

Made by the reception; connections of listeners with an `acceptQuery` ask at RCPT.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from letterlock_gateway.directory.answers import Answers
from letterlock_gateway.directory.connections import Connection
from letterlock_gateway.directory.settings import Server, Settings, Unavailable
from letterlock_gateway.report.log import Log

# Connections of one worker to one directory: one search at a time on each.
_MOST: Final = 8
# Seconds that a question may take in all, waiting for a connection and all servers included. SMTP clients wait for the
# reply to RCPT for five minutes (RFC 5321 section 4.5.3.2.3).
_PATIENCE: Final = 20.0
# Seconds that a server is left alone after it failed, as long as there is another one.
_REST: Final = 30.0
# Seconds in which nobody else is made to wait where no server could be reached. What one of them answers to one
# question says nothing of the next one: strangers choose the questions.
_DOWN: Final = 2.0
# Seconds after which a connection that was not used is made anew: servers hang up without a word.
_IDLE: Final = 60.0

type Clock = Callable[[], float]


class Directory:
    """One directory."""

    def __init__(self, settings: Settings, log: Log, clock: Clock = time.monotonic) -> None:
        """`clock` gives seconds and never goes back."""
        self.settings = settings
        self._log = log
        self._clock = clock
        self._answers = Answers()
        self._idle: list[tuple[float, Connection]] = []
        self._places = asyncio.Semaphore(_MOST)
        self._resting: dict[Server, float] = {}
        self._down_until = 0.0
        self._failing = ""
        self._closed = False

    async def knows(self, query: str) -> bool:
        """Whether anything matches the filter `query`. Raises Unavailable."""
        known = self._answers.get(query, self._clock())
        if known is not None:
            return known
        if self._clock() < self._down_until:
            raise Unavailable(self._failing)
        try:
            async with asyncio.timeout(_PATIENCE), self._places:
                found = await self._ask(query)
        except TimeoutError:
            raise self._failed(f"no answer within {_PATIENCE:g} s") from None
        except Unavailable as problem:
            raise self._failed(str(problem)) from problem
        if self._failing:
            self._failing = ""
            self._log.info(f"LDAP {self.settings.name} answers again")
        self._answers.put(query, self._clock(), known=found)
        return found

    def close(self) -> None:
        """Close what is idle; what is in use closes when it is given back."""
        self._closed = True
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _ask(self, query: str) -> bool:
        while (connection := self._take()) is not None:
            try:
                found = await connection.has(self.settings.base, query)
            except Unavailable:
                continue  # it may have been closed while nobody looked: another one, at last a new one
            self._give_back(connection)
            return found
        problems: list[str] = []
        for server in self._in_order():
            try:
                connection = await Connection.open(self.settings, server)
            except Unavailable as problem:
                self._resting[server] = self._clock() + _REST
                problems.append(f"{server}: {problem}")
                continue
            self._resting.pop(server, None)
            try:
                found = await connection.has(self.settings.base, query)
            except Unavailable as problem:
                problems.append(f"{server}: {problem}")
                continue
            self._give_back(connection)
            return found
        if len(self._resting) == len(self.settings.servers):
            self._down_until = self._clock() + _DOWN
        raise Unavailable("; ".join(problems))

    def _in_order(self) -> list[Server]:
        """Servers as they were written, those that failed a moment ago behind all others."""
        now = self._clock()
        return sorted(self.settings.servers, key=lambda one: self._resting.get(one, 0.0) > now)

    def _take(self) -> Connection | None:
        while self._idle:
            since, connection = self._idle.pop()
            if connection.open_still and self._clock() - since < _IDLE:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append((self._clock(), connection))

    def _failed(self, why: str) -> Unavailable:
        """Said once, until it answers again or something else is wrong."""
        if why != self._failing:
            self._failing = why
            self._log.error(f"LDAP {self.settings.name} cannot be asked: {why}")
        return Unavailable(why)


class Directories:
    """All directories of the running sets: those with equal settings are one."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._made: list[Directory] = []

    def get(self, settings: Settings) -> Directory:
        """The directory with these settings."""
        for made in self._made:
            if made.settings == settings:
                return made
        self._made.append(Directory(settings, self._log))
        return self._made[-1]

    def keep(self, wanted: Iterable[Settings]) -> None:
        """Close all but these."""
        kept = list(wanted)
        gone = [made for made in self._made if made.settings not in kept]
        self._made = [made for made in self._made if made.settings in kept]
        for made in gone:
            made.close()

    def close(self) -> None:
        """Close all."""
        self.keep(())
