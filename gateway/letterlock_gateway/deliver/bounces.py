"""Bounce messages: what the sender is told when a recipient's mail is given up (RFC 3461, 3464, 3462). Pure.

Called by `settling`. A bounce has the null sender, answers no null sender, and carries of a message that was
protected by TLS, or was to be, the headers only: a protected body never travels back (D8).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy as policies
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.spool import NewMessage, NewRecipient, Queued

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]+")
_XTEXT: Final = re.compile(r"\+([0-9A-F]{2})")
# RFC 3464 lines are header fields; a reply of 64 KiB is not worth more than this.
_MAX_DIAGNOSTIC: Final = 900


@dataclass(frozen=True, slots=True)
class Terms:
    """What bounces of this gateway have in common."""

    hostname: str
    sender: str
    """Address in From; empty: MAILER-DAEMON at the host name."""
    max_size: int
    """Bytes of a message that is sent back whole at most."""


def wanted(queued: Queued) -> bool:
    """Whether the sender is to be told of a failure: never the null sender, and as NOTIFY says (RFC 3461)."""
    notify = {word.strip().upper() for word in queued.notify.split(",") if word.strip()}
    return bool(queued.sender) and (not notify or "FAILURE" in notify)


def notice(
    failed: Sequence[tuple[Queued, Failure]], body: bytes, terms: Terms, now: float, *, protected: bool
) -> NewMessage | None:
    """The bounce for recipients of one message that failed; None: nobody is to be told.

    `body` is the message's; `protected`: whether it was received, or was to be delivered, over TLS.
    """
    told = [(queued, failure) for queued, failure in failed if wanted(queued)]
    if not told:
        return None
    first = told[0][0]
    whole = not protected and first.ret.upper() != "HDRS" and len(body) <= terms.max_size
    returned = body if whole else _header(body)
    kind = "message/rfc822" if whole else "text/rfc822-headers"
    parts = [
        _part("text/plain; charset=utf-8", _explanation(told, terms, whole=whole)),
        _part("message/delivery-status", _status(told, terms, first)),
        _part(kind, returned),
    ]
    boundary = f"letterlock-{first.mid}-{int(now * 1000):x}"
    while any(boundary.encode() in part for part in parts):
        boundary += "x"
    lines = [
        _top(first, terms, boundary, now),
        *(b"--" + boundary.encode() + b"\r\n" + part for part in parts),
        b"--" + boundary.encode() + b"--\r\n",
    ]
    text = b"".join(lines)
    return NewMessage(
        sender="",
        recipients=(NewRecipient(first.sender, notify="NEVER"),),
        body=text,
        icid=0,
        smtputf8=not first.sender.isascii(),
        body_8bit=not text.isascii(),
    )


def _top(first: Queued, terms: Terms, boundary: str, now: float) -> bytes:
    message = EmailMessage(policy=policies.SMTP)
    sender = terms.sender or f"MAILER-DAEMON@{terms.hostname}"
    try:
        local, _, domain = sender.rpartition("@")
        message["From"] = Address("Mail Delivery System", local, domain)
    except ValueError:
        message["From"] = sender
    message["Subject"] = "Undelivered mail returned to sender"
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = f"<{boundary}@{terms.hostname}>"
    message["Auto-Submitted"] = "auto-replied"  # RFC 3834
    message["MIME-Version"] = "1.0"
    head = message.as_bytes().rstrip(b"\r\n") + b"\r\n"
    # An address as it stands: the email package would fold or encode what it does not know.
    head += f"To: <{_plain(first.sender)}>\r\n".encode()
    kind = "multipart/report; report-type=delivery-status"
    return head + f'Content-Type: {kind};\r\n\tboundary="{boundary}"\r\n\r\n'.encode()


def _explanation(told: Sequence[tuple[Queued, Failure]], terms: Terms, *, whole: bool) -> bytes:
    returned = "The message is attached." if whole else "The header of the message is attached."
    lines = [
        f"This is the mail system at {terms.hostname}.",
        "",
        "Your message could not be delivered to the following recipients and will not be tried again.",
        returned,
        "",
    ]
    for queued, failure in told:
        where = f" ({failure.host})" if failure.host else ""
        lines.append(f"<{_plain(queued.address)}>{where}: {failure.status} {_plain(failure.text)}")
    return "".join(f"{line}\r\n" for line in lines).encode()


def _status(told: Sequence[tuple[Queued, Failure]], terms: Terms, first: Queued) -> bytes:
    """RFC 3464 section 2: fields about the message, then a group about each recipient."""
    message = [f"Reporting-MTA: dns; {terms.hostname}"]
    if first.envid:
        message.append(f"Original-Envelope-Id: {_decoded(first.envid)}")
    arrived = format_datetime(datetime.fromtimestamp(first.queued_at, UTC))
    message.append(f"Arrival-Date: {arrived}")
    groups = [message]
    for queued, failure in told:
        kind = "rfc822" if queued.address.isascii() else "utf-8"
        group = [f"Original-Recipient: {_decoded(queued.orcpt)}"] if queued.orcpt else []
        group += [f"Final-Recipient: {kind}; {_plain(queued.address)}", "Action: failed"]
        group.append(f"Status: {failure.status}")
        if failure.host and not failure.host.startswith("["):
            group.append(f"Remote-MTA: dns; {failure.host}")
        scheme, text = ("smtp", failure.reply) if failure.reply else ("x-letterlock", failure.text)
        group.append(f"Diagnostic-Code: {scheme}; {_plain(text)[:_MAX_DIAGNOSTIC]}")
        groups.append(group)
    return "\r\n".join("".join(f"{line}\r\n" for line in group) for group in groups).encode()


def _part(kind: str, content: bytes) -> bytes:
    head = f"Content-Type: {kind}\r\n"
    if not content.isascii():
        head += "Content-Transfer-Encoding: 8bit\r\n"
    ending = b"" if content.endswith(b"\r\n") else b"\r\n"
    # The line end before a boundary belongs to the boundary (RFC 2046 section 5.1.1).
    return head.encode() + b"\r\n" + content + ending + b"\r\n"


def _header(body: bytes) -> bytes:
    end = body.find(b"\r\n\r\n")
    return body if end < 0 else body[: end + 2]


def _decoded(xtext: str) -> str:
    """RFC 3461 section 4, without what would break the field."""
    return _plain(_XTEXT.sub(lambda found: chr(int(found[1], 16)), xtext))


def _plain(text: str) -> str:
    return _CONTROLS.sub(" ", text)
