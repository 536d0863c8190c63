"""Replies of SMTP servers: parsing them out of a byte stream, and what an EHLO reply offers. Pure.

Used by `wire`, which brings the bytes. RFC 5321 section 4.2, RFC 2034 and 3463 (enhanced status codes).
"""

import re
from collections.abc import Mapping
from typing import Final

from letterlock_gateway import values

# RFC 5321 section 4.5.3.1.5 says 512; real servers exceed it. The bounds keep a hostile one from filling memory.
_MAX_LINE: Final = 8192
_MAX_REPLY: Final = 65536
# Characters of a reply that are told: in the log, in spool and status, in bounces. A next hop could fill all of these.
_MAX_TOLD: Final = 1000
_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: |$)")


class MalformedReply(Exception):  # noqa: N818 - names what was met
    """What the peer sent is no SMTP reply."""


@values.value
class Reply:
    """One reply, all its lines."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.code} {self.text}"

    @property
    def text(self) -> str:
        """All lines in one, separated by spaces, as far as anybody wants to read that."""
        text = " ".join(line for line in self.lines if line)
        return text if len(text) <= _MAX_TOLD else text[: _MAX_TOLD - 1] + "…"

    @property
    def kind(self) -> int:
        """First digit: 2 done, 3 go on, 4 not now, 5 no."""
        return self.code // 100

    @property
    def status(self) -> str:
        """The enhanced status code, the peer's own where it gave one that fits, else of the reply's class."""
        found = _ENHANCED.match(self.lines[0]) if self.lines else None
        if found and found[1] == str(self.kind):
            return found[0].strip()
        return f"{self.kind}.0.0"


class ReplyParser:
    """Takes bytes, gives replies."""

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether a part of a reply has come that is not complete."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes. Raises MalformedReply; the parser is of no use after that."""
        *lines, self._buffer = (self._buffer + data if self._buffer else data).split(b"\n")
        replies: list[Reply] = []
        for line in lines:
            reply = self._take(line.removesuffix(b"\r"))
            if reply is not None:
                replies.append(reply)
        if len(self._buffer) > _MAX_LINE:
            raise MalformedReply(f"a reply line of more than {_MAX_LINE} bytes")
        return replies

    def _take(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line)
        if found is None or len(line) > _MAX_LINE:
            raise MalformedReply(f"no SMTP reply: {shown(line[:80])!r}")
        self._size += len(line)
        if self._size > _MAX_REPLY:
            raise MalformedReply(f"a reply of more than {_MAX_REPLY} bytes")
        self._lines.append(found[3] or b"")
        if found[2] == b"-":
            return None
        reply = Reply(int(found[1]), tuple([shown(text) for text in self._lines]))
        self._lines.clear()
        self._size = 0
        return reply


def offered(reply: Reply) -> Mapping[str, str]:
    """The keywords in an EHLO reply, upper case, each with its parameters. The greeting line is none."""
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if keyword:
            found[keyword.upper()] = parameters.strip()
    return found


def shown(text: bytes) -> str:
    """`text` for people and logs: UTF-8 where it is, without control characters."""
    plain = text.decode("utf-8", "replace").strip()
    if plain.isprintable():
        return plain
    return "".join(letter if letter.isprintable() else "?" for letter in plain)
