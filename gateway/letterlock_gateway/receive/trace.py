"""The trace header that each message gets, and the count of those it has. Pure.

RFC 5321 sections 4.4 and 6.3, RFC 3848.
"""

import re
import time
from functools import lru_cache
from typing import Final

from letterlock_gateway import values

_NAME_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_RECEIVED: Final = b"\r\nreceived:"
# One octet less than what is looked for, so that nothing is found twice.
_OVERLAP: Final = len(_RECEIVED) - 1
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@values.value
class TLSDetails:
    """What was negotiated with a client."""

    protocol: str
    """As OpenSSL names it: TLSv1.3."""
    cipher: str
    bits: int = 0
    client: str = ""
    """Subject of the client's certificate where it was verified; empty: none."""


def with_protocol(*, extended: bool, tls: bool, smtputf8: bool) -> str:
    """The WITH clause (RFC 3848; RFC 6531 section 3.7.3)."""
    if smtputf8:
        return "UTF8SMTPS" if tls else "UTF8SMTP"
    if not extended:
        return "SMTP"
    return "ESMTPS" if tls else "ESMTP"


def received(
    *,
    hello: str,
    host: str,
    address: str,
    hostname: str,
    protocol: str,
    mid: int,
    tls: TLSDetails | None,
    recipient: str | None,
    now: float,
) -> bytes:
    """The Received header, folded, with its line end.

    `host` is the client's verified name or empty; `recipient` is given only where there is one, so that blind
    copies stay blind; `now` in Unix seconds.
    """
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    lines = [f"Received: from {_NAME_UNSAFE.sub('?', hello)} ({host + ' ' if host else ''}{literal})"]
    if tls is not None:
        lines.append(f"(using {tls.protocol} with cipher {tls.cipher} ({tls.bits}/{tls.bits} bits))")
        if tls.client:
            lines.append(f"(client certificate verified: {_NAME_UNSAFE.sub('?', tls.client)})")
    ending = ";" if recipient is None else ""
    lines.append(f"by {hostname} with {protocol} id {mid}{ending}")
    if recipient is not None:
        lines.append(f"for <{recipient}>;")
    lines.append(date(now))
    return "\r\n\t".join(lines).encode() + b"\r\n"


def date(now: float) -> str:
    """RFC 5322 date-time in UTC."""
    return _date(int(now))


@lru_cache(8)
def _date(second: int) -> str:
    moment = time.gmtime(second)
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday} {_MONTHS[moment.tm_mon - 1]} {moment.tm_year}"
        f" {moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} +0000"
    )


class HopCount:
    """How many Received headers a message has (RFC 5321 section 6.3), which comes in pieces."""

    __slots__ = ("_ended", "_tail", "count")

    def __init__(self) -> None:
        self.count = 0
        self._tail = b"\r\n"  # a message begins at the start of a line
        self._ended = False

    def feed(self, piece: bytes) -> None:
        """Count in the next piece, up to the end of the header."""
        if self._ended:
            return
        window = self._tail + piece
        end = window.find(b"\r\n\r\n")
        self._ended = end >= 0
        header = window if end < 0 else window[:end]
        self.count += header.lower().count(_RECEIVED)
        self._tail = window[-_OVERLAP:]
