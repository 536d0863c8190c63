"""The commands of one mail transaction, and what of them the next hop does not know. Pure.

Used by `transactions`. RFC 1870 (SIZE), 3461 (DSN), 6152 (8BITMIME), 6531 (SMTPUTF8): a parameter goes out only
where its keyword was offered.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from letterlock_gateway import line_ends, values
from letterlock_gateway.spool import Content, Queued

_LINE_ENDS: Final = re.compile(rb"\r\n|\r|\n")
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f]")
_UNSAFE_IN_PATH: Final = re.compile(r"[\x00-\x1f\x7f<>]")
_SIZE: Final = re.compile(r"[0-9]{1,19}")


@values.value
class Refused:
    """The next hop cannot be given this message. `status`: RFC 3463."""

    status: str
    text: str


@values.value
class Envelope:
    """One message for some recipients, ready to be sent."""

    mail: str
    """The MAIL command."""
    recipients: tuple[str, ...]
    """The RCPT commands."""


def prepare(recipients: Sequence[Queued], content: Content, offered: Mapping[str, str]) -> Envelope | Refused:
    """The commands for `recipients` of one message, to a host that offered these keywords."""
    first = recipients[0]
    paths = [first.sender, *(one.address for one in recipients)]
    if any(_UNSAFE_IN_PATH.search(_unquoted(path)) for path in paths):
        return Refused("5.1.3", "the address cannot be written in a command")
    utf8 = not all(map(str.isascii, paths)) or (first.smtputf8 and not content.header.isascii())
    if utf8 and "SMTPUTF8" not in offered:
        return Refused("5.6.7", "the message needs SMTPUTF8, which the next hop does not offer")
    eight = not content.ascii
    if eight and first.body_8bit and "8BITMIME" not in offered:
        return Refused("5.6.3", "the message needs 8BITMIME, which the next hop does not offer")
    limit = offered.get("SIZE", "")
    if _SIZE.fullmatch(limit) and 0 < int(limit) < content.size:
        return Refused(
            "5.3.4", f"the message of {content.size} bytes exceeds the next hop's limit of {limit}"
        )
    dsn = "DSN" in offered
    mail = [f"MAIL FROM:<{first.sender}>"]
    mail += [f"SIZE={content.size}"] if "SIZE" in offered else []
    mail += ["BODY=8BITMIME"] if eight and "8BITMIME" in offered else []
    mail += ["SMTPUTF8"] if utf8 else []
    if dsn:
        mail += [f"RET={first.ret}"] if _safe(first.ret, utf8=False) else []
        mail += [f"ENVID={first.envid}"] if _safe(first.envid, utf8=False) else []
    return Envelope(" ".join(mail), tuple([_recipient(one, dsn=dsn, utf8=utf8) for one in recipients]))


class Stuffing:
    """A body as it follows DATA, piece by piece: line ends CRLF, dots stuffed (RFC 5321 section 4.5.2), and the end.

    Reception refuses bare CR and LF, so their replacement changes nothing; but what left here with one in it could
    smuggle a second message past the next hop. What comes out does not depend on how the body was cut into pieces.
    """

    __slots__ = ("_at_line_start", "_carry", "_plain")

    def __init__(self, *, plain: bool = False) -> None:
        """`plain`: all of the body is known to need no change (`Content.plain`), so it is not looked at again."""
        self._plain = plain
        self._carry = b""
        self._at_line_start = True

    def feed(self, piece: bytes) -> bytes:
        """What the next piece becomes."""
        if self._plain:
            self._at_line_start = piece.endswith(b"\n")
            return piece
        piece = self._carry + piece if self._carry else piece
        # Whether a CR at the end is a bare one is only known with the next octet.
        self._carry = piece[-1:] if piece.endswith(b"\r") else b""
        if self._carry:
            piece = piece[:-1]
        if not piece:
            return b""
        if not line_ends.all_are_crlf(piece):
            piece = _LINE_ENDS.sub(b"\r\n", piece)
        # Looked for from behind, which takes half of the time where there is none.
        stuffed = piece.replace(b"\r\n.", b"\r\n..") if piece.rfind(b"\r\n.") >= 0 else piece
        if self._at_line_start and piece.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_line_start = piece.endswith(b"\r\n")
        return stuffed

    def end(self) -> bytes:
        """What comes after the last piece."""
        return b".\r\n" if self._at_line_start and not self._carry else b"\r\n.\r\n"


def _recipient(one: Queued, *, dsn: bool, utf8: bool) -> str:
    parts = [f"RCPT TO:<{one.address}>"]
    if dsn:
        parts += [f"NOTIFY={one.notify}"] if _safe(one.notify, utf8=False) else []
        parts += [f"ORCPT={one.orcpt}"] if _safe(one.orcpt, utf8=utf8) else []
    return " ".join(parts)


def _safe(value: str, *, utf8: bool) -> bool:
    return bool(value) and not _UNSAFE.search(value) and (utf8 or value.isascii())


def _unquoted(path: str) -> str:
    """`path` without a quoted local part, in which angle brackets are just letters."""
    return path[path.rfind('"') + 1 :] if path.startswith('"') and path.isprintable() else path
