"""The text of a message as it comes in: finds its end, takes stuffed dots out, refuses what could smuggle. Pure.

Only CRLF . CRLF ends a message (RFC 5321 section 4.1.1.4). A bare CR, a bare LF or a NUL anywhere makes the
whole message refused when it has ended, rather than mended: what a sender's and a receiver's server could
take for different message ends is nothing that honest mail needs, and mending it would change signed text
(docs/decisions/0004-own-smtp-session.md). Nothing is kept here but the few octets that may begin an end:
what is clean goes on at once, as `pieces`. What comes out depends only on the octets, never on how they were
cut into pieces.
"""

from typing import Final

from letterlock_gateway import line_ends
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.trace import HopCount

_END: Final = b"\r\n.\r\n"
_DOT: Final = b"\r\n."
# The longest first: how much of the end the last octets may be.
_BEGINNINGS: Final = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))
# Of a message that is refused the rest is read, so that the client hears why (RFC 5321 section 4.2.5), but
# not for ever.
MAX_UNWANTED: Final = 1 << 30


class Incoming:
    """One message as it comes in."""

    __slots__ = (
        "_begun",
        "_carry",
        "_hops",
        "_limit",
        "_malformed",
        "_max_hops",
        "ascii",
        "pieces",
        "plain",
        "size",
    )

    def __init__(self, limit: int, max_hops: int) -> None:
        """`limit`: octets that a message may have; `max_hops`: Received headers."""
        # The text begins at the start of a line: as if CRLF had come before it.
        self._carry = b"\r\n"
        self._begun = False
        self._limit = limit
        self._max_hops = max_hops
        self._hops = HopCount()
        self._malformed = False
        self.pieces: list[bytes] = []
        """What has become clear of the message since they were last taken out: dots unstuffed."""
        self.size = 0
        """Octets of the message so far."""
        self.ascii = True
        """Whether there was none above 127."""
        self.plain = True
        """Whether no line began with a dot."""

    @property
    def refusal(self) -> Reply | None:
        """Why the message is not taken, as far as it has come; None: there is no reason yet."""
        if self.size > self._limit:
            return replies.MESSAGE_TOO_BIG
        if self._malformed:
            return replies.MALFORMED_MESSAGE
        return replies.LOOP if self._hops.count > self._max_hops else None

    @property
    def hopeless(self) -> bool:
        """Whether so much has come of a message that is refused that no more is to be read."""
        return self.size > self._limit + MAX_UNWANTED

    def feed(self, data: bytes) -> bytes | None:
        """Take `data`. None: the end has not come; else what follows the end."""
        window = self._carry + data if self._carry else data
        # From behind first: where nothing is found, which is so for nearly all of a large text, that takes half of the
        # time. And a text without a dot at the beginning of a line has no end in it either.
        dots = window.rfind(_DOT) >= 0
        end = window.find(_END) if dots else -1
        if end < 0:
            keep = next((len(one) for one in _BEGINNINGS if window.endswith(one)), 0)
            self._take(window[: len(window) - keep], dots=dots)
            self._carry = window[len(window) - keep :]
            return None
        self._take(window[: end + 2], dots=dots)
        self._carry = b""
        return window[end + len(_END) :]

    def _take(self, piece: bytes, *, dots: bool) -> None:
        """Take what is certainly text, and neither begins nor ends within a CRLF or before a dot to be taken out."""
        if self.size > self._limit:  # too big it stays, so nothing else about it matters any more
            self.size += len(piece)
            return
        if not piece:
            return
        if not self._malformed:
            self._malformed = b"\0" in piece or not line_ends.all_are_crlf(piece)
        begun, self._begun = self._begun, True
        if self._malformed:
            self.pieces.clear()
            self.size += len(piece) - piece.count(_DOT) - (0 if begun else 2)
            return
        if dots:
            unstuffed = piece.replace(_DOT, b"\r\n")
            self.plain = self.plain and len(unstuffed) == len(piece)
            piece = unstuffed
        if not begun:  # the CRLF that was put before the text
            piece = piece[2:]
        self.size += len(piece)
        self.ascii = self.ascii and piece.isascii()
        self._hops.feed(piece)
        if self.refusal is not None:
            self.pieces.clear()
        elif piece:
            self.pieces.append(piece)
