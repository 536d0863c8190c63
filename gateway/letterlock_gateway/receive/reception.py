"""All listeners of one worker: their sockets, the newest set for new connections, the time of all of them.

Called by the worker: `apply` with every new set, `close` at the end.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from socket import socket
from typing import Any, Final

from letterlock_api.snapshot import SnapshotListener
from letterlock_api.state import ListenerState
from letterlock_gateway.counters import Tally
from letterlock_gateway.directory import Directories
from letterlock_gateway.options import Options
from letterlock_gateway.receive import sockets, terms
from letterlock_gateway.receive.connection import Connection
from letterlock_gateway.receive.hosts import Hosts
from letterlock_gateway.receive.hub import Guest
from letterlock_gateway.receive.limits import Limits
from letterlock_gateway.receive.sockets import Endpoint
from letterlock_gateway.receive.terms import ListenerTerms
from letterlock_gateway.receive.turns import Turns
from letterlock_gateway.report.log import Log
from letterlock_gateway.running import RunningSet
from letterlock_gateway.spool import Spool
from letterlock_gateway.spool.numbers import NUMBER_STEP

# Seconds between looks at the deadlines of all connections: minutes are not measured more finely than that,
# and a timer for each command would cost more than the command.
_SWEEP: Final = 1.0
# Seconds until the next try where a connection could not be accepted.
_ACCEPT_AGAIN: Final = 0.1

# Octets that are read at a time; uvloop decrypts no more at once either.
_BUFFER: Final = 256 * 1024


@dataclass
class _Open:
    """A socket that listens, and whose it is."""

    socket: socket
    listener: ListenerTerms
    """Whom new connections belong to; changes with the set."""
    backlog: int
    server: asyncio.Server | None = None
    accepting: asyncio.Task[None] | None = None
    """Instead of the server, with TLS from the first byte."""


class Reception:
    """See the module."""

    def __init__(
        self,
        spool: Spool,
        log: Log,
        options: Options,
        clock: Callable[[], float],
        tally: Tally | None = None,
    ) -> None:
        """`clock` gives Unix seconds; `tally`: what all workers count together; None: there are no others."""
        self.spool = spool
        self.mail_log = log
        self.clock = clock
        self.limits = Limits(clock, tally)
        self.directories = Directories(log)
        self.turns = Turns()
        self.buffer = memoryview(bytearray(_BUFFER))
        self._options = options
        self._open: dict[Endpoint, _Open] = {}
        self._connections: set[Guest] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._icid = spool.number
        self._resolvers: list[str] = []
        self._hosts: Hosts | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._leaving = False
        self._empty = asyncio.Event()
        self._empty.set()

    async def apply(self, running: RunningSet) -> list[ListenerState]:
        """Listen as `running` says, and say for each listener whether it does.

        Connections in progress keep the set they began with. An endpoint that stays is never closed in
        between.
        """
        if self._closing:
            return []
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        if running.snapshot.delivery.resolvers != self._resolvers:
            self._resolvers, self._hosts = list(running.snapshot.delivery.resolvers), None
        states: list[ListenerState] = []
        kept: set[Endpoint] = set()
        taking = running.admitted and not self._leaving
        wanted = running.listeners.items() if taking else ()
        # All of them before any takes effect: a set is taken as a whole or not at all (L9).
        compiled = [(name, terms.compile_listener(running, one), one.listener) for name, one in wanted]
        for name, listener, manifest in compiled:
            problem = await self._listen(listener, manifest, kept)
            states.append(ListenerState(name=name, listening=problem is None, problem=problem))
        for endpoint in self._open.keys() - kept:
            self._stop_listening(endpoint)
        self.directories.keep(running.directories.values())
        return states

    def leave(self) -> None:
        """Take no more connections and close the idle ones, until `stay`. May be called again."""
        self._leaving = True
        for endpoint in list(self._open):
            self._stop_listening(endpoint)
        for connection in list(self._connections):
            connection.stop()

    def stay(self) -> None:
        """Listen again, with the next set."""
        self._leaving = False

    @property
    def left_by_all(self) -> bool:
        """Whether nobody can bring a message any more, and none is on its way to the spool."""
        return self._leaving and not self._open and not self._connections and not self._tasks

    async def close(self, grace: float) -> None:
        """Take no more connections; close the idle ones; others have `grace` seconds for their message."""
        self._closing = True
        for endpoint in list(self._open):
            self._stop_listening(endpoint)
        for connection in list(self._connections):
            connection.stop()
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), grace)
        for connection in list(self._connections):
            connection.cut()
        if self._tasks:  # stores that are under way: their messages are as good as accepted
            await asyncio.wait(self._tasks, timeout=max(1.0, end - loop.time()))
        if self._timer is not None:
            self._timer.cancel()
        self.directories.close()

    # Called by connections

    def next_icid(self) -> int:
        """A number that is used once, and never by another worker of this member."""
        self._icid += NUMBER_STEP
        return self._icid

    def hosts(self) -> Hosts:
        """The look-up of names, made when it is first needed."""
        if self._hosts is None:
            self._hosts = Hosts(self._resolvers)
        return self._hosts

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end, whatever becomes of the connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def entered(self, connection: Guest) -> None:
        """A connection has begun."""
        self._connections.add(connection)
        self._empty.clear()

    def left(self, connection: Guest) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    # Inside

    async def _listen(
        self, listener: ListenerTerms, wanted: SnapshotListener, kept: set[Endpoint]
    ) -> str | None:
        """Listen on all endpoints of a listener; None, or why that is not possible."""
        options = self._options
        try:
            endpoints = sockets.endpoints(
                options.bind_address(wanted.address), options.bind_port(wanted.port)
            )
        except ValueError:
            return f"{wanted.address} is not an address"
        for endpoint in endpoints:
            if endpoint in kept:
                return f"{endpoint} is taken by listener {self._open[endpoint].listener.name}"
            present = self._open.get(endpoint)
            if present is not None and present.listener.implicit_tls != listener.implicit_tls:
                self._stop_listening(endpoint)
                present = None
            if present is None:
                try:
                    await self._start_listening(endpoint, listener, wanted.tcp_queue)
                except OSError as error:
                    return sockets.explain(error, endpoint)
            else:
                present.listener = listener
                if present.backlog != wanted.tcp_queue:
                    present.socket.listen(wanted.tcp_queue)
                    present.backlog = wanted.tcp_queue
            kept.add(endpoint)
        return None

    async def _start_listening(self, endpoint: Endpoint, listener: ListenerTerms, backlog: int) -> None:
        bound = sockets.bind(endpoint)
        loop = asyncio.get_running_loop()
        opened = _Open(bound, listener, backlog)
        try:
            if listener.implicit_tls:
                bound.listen(backlog)
                opened.accepting = loop.create_task(self._accept(opened), name=f"accept {endpoint}")
            else:
                opened.server = await loop.create_server(
                    lambda: Connection(self, opened.listener), sock=bound, backlog=backlog
                )
        except OSError:
            bound.close()
            raise
        self._open[endpoint] = opened
        self.mail_log.info(f"Listener {listener.name} listens on {endpoint}")

    async def _accept(self, opened: _Open) -> None:
        """Accept connections of a listener with TLS from the first byte."""
        loop = asyncio.get_running_loop()
        with opened.socket:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(opened.socket)
                except OSError as error:  # out of descriptors, or the client has gone already
                    self.mail_log.warning(f"Connection to {opened.listener.name} not accepted: {error}")
                    await asyncio.sleep(_ACCEPT_AGAIN)
                    continue
                accepted.setblocking(False)
                self.spawn(Connection(self, opened.listener).secure(accepted))

    def _stop_listening(self, endpoint: Endpoint) -> None:
        gone = self._open.pop(endpoint)
        if gone.server is not None:
            gone.server.close()
        if gone.accepting is not None:
            gone.accepting.cancel()  # which closes the socket
        self.mail_log.info(f"Listener {gone.listener.name} no longer listens on {endpoint}")

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [one for one in self._connections if one.deadline < now]:
            connection.time_out()
        self._timer = loop.call_later(_SWEEP, self._sweep)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.mail_log.error(f"A connection failed: {type(error).__name__}: {error}")
