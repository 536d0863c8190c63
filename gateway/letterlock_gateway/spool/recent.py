"""What was stored a moment ago, kept in memory so that its delivery need not read it back.

Used by the spool alone.
"""

from collections import OrderedDict
from typing import Final

from letterlock_gateway.spool.contents import Content
from letterlock_gateway.spool.messages import Queued

_MAX_RECIPIENTS: Final = 5000
_MAX_BYTES: Final = 32 << 20


class Recent:
    """A bounded memory of new recipients and bodies; what was pushed out is read from the database."""

    def __init__(self) -> None:
        self._recipients: OrderedDict[int, Queued] = OrderedDict()
        self._contents: OrderedDict[int, Content] = OrderedDict()
        self._bytes = 0

    def add(self, recipients: list[Queued], mid: int, content: Content | None) -> None:
        """Remember a new message. `content`: None where that has to be read from its file."""
        for recipient in recipients:
            self._recipients[recipient.rid] = recipient
        while len(self._recipients) > _MAX_RECIPIENTS:
            self._recipients.popitem(last=False)
        if content is None or len(content.start) > _MAX_BYTES // 8:
            return
        self._contents[mid] = content
        self._bytes += len(content.start)
        while self._bytes > _MAX_BYTES:
            self._bytes -= len(self._contents.popitem(last=False)[1].start)

    def take(self, rid: int) -> Queued | None:
        """The recipient, if it is still here.

        It is forgotten by that, since a later look must see its later state.
        """
        return self._recipients.pop(rid, None)

    def content(self, mid: int) -> Content | None:
        """What is known of the body, if it is still here."""
        return self._contents.get(mid)

    def forget(self, mid: int) -> None:
        """The message is finished."""
        content = self._contents.pop(mid, None)
        if content is not None:
            self._bytes -= len(content.start)
