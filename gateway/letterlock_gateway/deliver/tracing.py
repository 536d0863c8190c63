"""What a connection meets on its way, step by step: told to whoever wants to show it. No I/O.

Called by `connecting` after each step. Delivery wants none of it and passes `SILENT`; `letterlock check` collects it
(`survey`), so that what it shows is what delivery does.
"""

import ssl
from typing import Final

from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.outcomes_table import Event
from letterlock_gateway.deliver.replies import Reply
from letterlock_gateway.deliver.wire import Wire


class Trace:
    """Hears of everything and keeps nothing."""

    def begins(self, *, in_clear: bool) -> None:
        """A connection is about to be made; `in_clear`: once more, after one that was lost before the 220."""

    def connected(self, wire: Wire) -> None:
        """The connection stands."""

    def replied(self, to: str, reply: Reply) -> None:
        """The peer's reply `to` a command; empty: its greeting."""

    def met(self, event: Event, detail: str = "") -> None:
        """The outcome table is about to be asked what this means."""

    def encrypted(self, session: ssl.SSLObject) -> None:
        """The handshake is done."""

    def given_up(self, failure: Failure) -> None:
        """The host is given up."""


SILENT: Final = Trace()
