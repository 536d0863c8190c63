"""What connections and the reception know of each other, so that neither module needs the other's inside."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from letterlock_gateway.directory import Directories
from letterlock_gateway.receive.hosts import Hosts
from letterlock_gateway.receive.limits import Limits
from letterlock_gateway.receive.turns import Turns
from letterlock_gateway.report.log import Log
from letterlock_gateway.spool import Spool


class Guest(Protocol):
    """What the reception needs of a connection."""

    deadline: float
    """When `time_out` is to be called, in the event loop's time."""

    def time_out(self) -> None:
        """The deadline has passed."""
        ...

    def stop(self) -> None:
        """The member ends: close unless a message is under way."""
        ...

    def cut(self) -> None:
        """The member ends now."""
        ...


class Hub(Protocol):
    """What a connection needs of the reception."""

    spool: Spool
    mail_log: Log
    limits: Limits
    directories: Directories
    clock: Callable[[], float]
    turns: Turns
    buffer: memoryview
    """What a connection has read, until it has taken it out: at once. One for all, as one reads at a time."""

    def next_icid(self) -> int:
        """A number for a connection."""
        ...

    def hosts(self) -> Hosts:
        """The look-up of names."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end, whatever becomes of the connection."""
        ...

    def entered(self, connection: "Guest") -> None:
        """A connection has begun."""
        ...

    def left(self, connection: "Guest") -> None:
        """A connection has ended."""
        ...
