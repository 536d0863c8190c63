"""What was stored a moment ago, kept in memory so that its delivery need not read it back.

Used by the spool alone.
"""

from collections import OrderedDict
from typing import Final

from letterlock_gateway.spool.messages import Queued

_MAX_RECIPIENTS: Final = 5000
_MAX_BYTES: Final = 32 << 20


class Recent:
    """A bounded memory of new recipients and bodies; what was pushed out is read from the database."""

    def __init__(self) -> None:
        self._recipients: OrderedDict[int, Queued] = OrderedDict()
        self._bodies: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def add(self, recipients: list[Queued], mid: int, body: bytes | None) -> None:
        """Remember a new message. `body`: None where it is in a file only."""
        for recipient in recipients:
            self._recipients[recipient.rid] = recipient
        while len(self._recipients) > _MAX_RECIPIENTS:
            self._recipients.popitem(last=False)
        if body is None or len(body) > _MAX_BYTES // 8:
            return
        self._bodies[mid] = body
        self._bytes += len(body)
        while self._bytes > _MAX_BYTES:
            self._bytes -= len(self._bodies.popitem(last=False)[1])

    def take(self, rid: int) -> Queued | None:
        """The recipient, if it is still here.

        It is forgotten by that, since a later look must see its later state.
        """
        return self._recipients.pop(rid, None)

    def body(self, mid: int) -> bytes | None:
        """The body, if it is still here."""
        return self._bodies.get(mid)

    def forget(self, mid: int) -> None:
        """The message is finished."""
        body = self._bodies.pop(mid, None)
        if body is not None:
            self._bytes -= len(body)
