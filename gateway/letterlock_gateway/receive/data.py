"""The text that follows DATA: finds its end, takes the stuffed dots out, refuses what could smuggle. Pure.

Only CRLF . CRLF ends a message (RFC 5321 section 4.1.1.4). A bare CR, a bare LF or a NUL anywhere makes the
whole message refused when it has ended, rather than mended: what a sender's and a receiver's server could
take for different message ends is nothing that honest mail needs, and mending it would change signed text
(docs/decisions/0004-own-smtp-session.md).
"""

from typing import Final

from letterlock_gateway.receive import replies
from letterlock_gateway.receive.replies import Reply

_END: Final = b"\r\n.\r\n"
_KEEP: Final = len(_END) - 1


class Incoming:
    """One message as it comes in."""

    __slots__ = ("_carry", "_chunks", "_limit", "refusal", "size")

    def __init__(self, limit: int) -> None:
        """`limit`: octets that are kept; of a longer message the rest is read and dropped."""
        self._chunks: list[bytes] = []
        # The text begins at the start of a line: as if CRLF had come before it.
        self._carry = b"\r\n"
        self._limit = limit
        self.size = 0
        """Octets so far."""
        self.refusal: Reply | None = None

    def feed(self, data: bytes) -> bytes | None:
        """Take `data`. None: the end has not come; else what follows the end."""
        window = self._carry + data
        end = window.find(_END)
        if end < 0:
            keep = min(_KEEP, len(window))
            self._take(window[: len(window) - keep])
            self._carry = window[len(window) - keep :]
            return None
        self._take(window[: end + 2])
        self._carry = b""
        return window[end + len(_END) :]

    def message(self) -> bytes | Reply:
        """The message, once its end has come; or why it is refused."""
        if self.refusal is not None:
            return self.refusal
        body = b"".join(self._chunks)
        self._chunks.clear()
        if b"\0" in body or not body.count(b"\r\n") == body.count(b"\r") == body.count(b"\n"):
            return replies.MALFORMED_MESSAGE
        if b"\r\n." in body:
            body = body.replace(b"\r\n.", b"\r\n")
        return body[2:]

    def _take(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limit + 2:  # the CRLF before the text does not count
            self._chunks.clear()
            self.refusal = replies.MESSAGE_TOO_BIG
        elif piece:
            self._chunks.append(piece)
