"""Cuts what a client sends into command lines. Pure; used by `dialogue`.

A line is text in UTF-8 that ends with CRLF (RFC 5321 section 2.3.8), without a bare CR, a bare LF or a NUL.
Whatever else comes up to the next LF is one wrong line, of which no more than a line's length is kept.
"""

from typing import Final

from letterlock_gateway.receive import replies
from letterlock_gateway.receive.replies import Reply

# RFC 5321 section 4.5.3.1.4 says 512, and that extensions add to it: SMTPUTF8, DSN's ENVID and ORCPT.
MAX_LINE: Final = 2048


class Lines:
    """What has come and was not read yet."""

    __slots__ = ("_at", "_buffer", "left", "skipping")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # how far the buffer has been read: cutting each line off would copy the rest each time
        self.left = 0
        """How many octets."""
        self.skipping = False
        """Whether a line comes in that is too long: nothing of it is kept."""

    def add(self, data: bytes) -> None:
        """Take what the client sent."""
        self._buffer = self._buffer[self._at :] + data if self.left else data
        self._at = 0
        self.left = len(self._buffer)

    def next(self) -> str | Reply | None:
        """The next line, without its end; or what a wrong one is answered; None: there is no whole line."""
        start = self._at
        end = self._buffer.find(b"\n", start)
        if end < 0:
            if self.left > MAX_LINE:
                self._at = len(self._buffer) - 1  # the last octet may be the CR of the line end
                self.left = 1
                self.skipping = True
            return None
        line = self._buffer[start : end + 1]
        self._at = end + 1
        self.left -= len(line)
        if self.skipping or len(line) > MAX_LINE:
            self.skipping = False
            return replies.LINE_TOO_LONG
        if not line.endswith(b"\r\n") or line.count(b"\r") > 1 or b"\0" in line:
            return replies.BAD_LINE
        try:
            return line[:-2].decode()
        except UnicodeDecodeError:
            return replies.BAD_LINE

    def take(self, most: int) -> bytes:
        """The next octets, at most so many, which are not lines but text."""
        start, self._at = self._at, min(self._at + most, len(self._buffer))
        self.left -= self._at - start
        return self._buffer[start : self._at]

    def give_back(self, octets: int) -> None:
        """The last so many of what was taken are lines after all."""
        self._at -= octets
        self.left += octets

    def clear(self) -> None:
        """Forget it all."""
        self._buffer, self._at, self.left, self.skipping = b"", 0, 0, False
