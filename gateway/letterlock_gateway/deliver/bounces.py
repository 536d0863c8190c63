"""What senders are told, as delivery status notifications (RFC 3464, 3461, 3462, 6533). Pure.

Called by `settling`: a bounce when a recipient's mail is given up, a notice when it waits for long, and one when
it was handed to a next hop that cannot report for itself what the sender asked for. All have the null sender
and answer no null sender; of a message that was protected by TLS, or was to be, they carry the headers only: a
protected body never travels back (D8).
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email import policy as policies
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final, Literal

from letterlock_gateway import values
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.replies import Reply
from letterlock_gateway.report.printable import one_line
from letterlock_gateway.spool import NewMessage, NewRecipient, Queued

_XTEXT: Final = re.compile(r"\+([0-9A-F]{2})")
# Octets of what others said. A reply may have 64 KiB, and a line of a message 998 (RFC 5322 section 2.1.1): servers
# refuse longer ones, and nobody hears of a bounce that bounces.
_MAX_DIAGNOSTIC: Final = 900

Action = Literal["failed", "delayed", "relayed"]
_SUBJECTS: Final[dict[Action, str]] = {
    "failed": "Undelivered mail returned to sender",
    "delayed": "Delayed mail, which is still being tried",
    "relayed": "Mail passed on to its next hop",
}
_EXPLANATIONS: Final[dict[Action, str]] = {
    "failed": "Your message could not be delivered to the following recipients and will not be tried again.",
    "delayed": "Your message could not be delivered to the following recipients yet. It is still being tried:"
    " there is nothing that you have to do.",
    "relayed": "You asked to be told: your message was handed to the next mail system of the following"
    " recipients, which sends no reports of its own.",
}


@values.value
class Terms:
    """What bounces of this gateway have in common."""

    hostname: str
    sender: str
    """Address in From; empty: MAILER-DAEMON at the host name."""
    max_size: int
    """Bytes of a message that is sent back whole at most."""


@values.value
class _Entry:
    """What is told of one recipient."""

    queued: Queued
    status: str
    text: str
    host: str
    reply: str
    retry_until: float | None = None


def wanted(queued: Queued) -> bool:
    """Whether the sender is to be told of a failure: never the null sender, and as NOTIFY says (RFC 3461)."""
    return bool(queued.sender) and ("FAILURE" in (asked := _asked(queued)) or not asked)


def wants_delay(queued: Queued) -> bool:
    """Whether the sender is to be told of a delay, and has not been yet. Without NOTIFY that is up to us."""
    return (
        bool(queued.sender) and not queued.told_delay and ("DELAY" in (asked := _asked(queued)) or not asked)
    )


def wants_success(queued: Queued) -> bool:
    """Whether the sender asked to be told of success."""
    return bool(queued.sender) and "SUCCESS" in _asked(queued)


def notice(
    failed: Sequence[tuple[Queued, Failure]], body: bytes, terms: Terms, now: float, *, protected: bool
) -> NewMessage | None:
    """The bounce for recipients of one message that failed; None: nobody is to be told.

    `body` is the message's; `protected`: whether it was received, or was to be delivered, over TLS.
    """
    told = [_failed(queued, failure) for queued, failure in failed if wanted(queued)]
    if not told:
        return None
    first = told[0].queued
    whole = not protected and first.ret.upper() != "HDRS" and len(body) <= terms.max_size
    return _compose("failed", told, body if whole else _header(body), terms, now, whole=whole)


def delay(
    waiting: Sequence[Queued],
    failure: Failure,
    body: bytes,
    terms: Terms,
    now: float,
    *,
    give_up_after: float,
) -> NewMessage | None:
    """The notice that recipients of one message wait, for `failure`; None: nobody is to be told."""
    told = [
        _failed(one, failure, retry_until=one.queued_at + give_up_after)
        for one in waiting
        if wants_delay(one)
    ]
    return _compose("delayed", told, _header(body), terms, now) if told else None


def relayed(
    taken: Sequence[tuple[Queued, Reply]], host: str, body: bytes, terms: Terms, now: float
) -> NewMessage | None:
    """The notice that `host`, which offers no DSN, took the message; None: nobody asked for it."""
    told = [
        _Entry(queued, reply.status, str(reply), host, str(reply))
        for queued, reply in taken
        if wants_success(queued)
    ]
    return _compose("relayed", told, _header(body), terms, now) if told else None


def _asked(queued: Queued) -> set[str]:
    return {word.strip().upper() for word in queued.notify.split(",") if word.strip()}


def _failed(queued: Queued, failure: Failure, retry_until: float | None = None) -> _Entry:
    return _Entry(queued, failure.status, failure.text, failure.host, failure.reply, retry_until)


def _compose(
    action: Action, told: Sequence[_Entry], returned: bytes, terms: Terms, now: float, *, whole: bool = False
) -> NewMessage:
    first = told[0].queued
    # A sender whose own address needs SMTPUTF8 gets a report in UTF-8, everybody else one in ASCII (RFC 6533).
    utf8 = not first.sender.isascii()
    parts = [
        _part("text/plain; charset=utf-8", _explanation(action, told, terms, whole=whole)),
        _part(
            "message/global-delivery-status" if utf8 else "message/delivery-status",
            _status(action, told, terms, now, utf8=utf8),
        ),
        _part(_kind(returned, whole=whole, utf8=utf8), returned),
    ]
    boundary = f"letterlock-{first.mid}-{first.rid}-{int(now * 1000):x}"
    while any(boundary.encode() in part for part in parts):
        boundary += "x"
    lines = [
        _top(_SUBJECTS[action], first, terms, boundary, now),
        *(b"--" + boundary.encode() + b"\r\n" + part for part in parts),
        b"--" + boundary.encode() + b"--\r\n",
    ]
    text = b"".join(lines)
    return NewMessage(
        sender="",
        recipients=(NewRecipient(first.sender, notify="NEVER"),),
        body=text,
        icid=0,
        smtputf8=utf8,
        body_8bit=not text.isascii(),
        about=first.mid,
    )


def _kind(returned: bytes, *, whole: bool, utf8: bool) -> str:
    """RFC 3462 section 2; RFC 6533 section 5 where the header itself is in UTF-8 and may be sent as it is."""
    if utf8 and not _header(returned).isascii():
        return "message/global" if whole else "message/global-headers"
    return "message/rfc822" if whole else "text/rfc822-headers"


def _top(subject: str, first: Queued, terms: Terms, boundary: str, now: float) -> bytes:
    message = EmailMessage(policy=policies.SMTP)
    sender = terms.sender or f"MAILER-DAEMON@{terms.hostname}"
    try:
        local, _, domain = sender.rpartition("@")
        message["From"] = Address("Mail Delivery System", local, domain)
    except ValueError:
        message["From"] = sender
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = f"<{boundary}@{terms.hostname}>"
    message["Auto-Submitted"] = "auto-replied"  # RFC 3834
    message["MIME-Version"] = "1.0"
    head = message.as_bytes().rstrip(b"\r\n") + b"\r\n"
    # An address as it stands: the email package would fold or encode what it does not know.
    head += f"To: <{one_line(first.sender)}>\r\n".encode()
    kind = "multipart/report; report-type=delivery-status"
    return head + f'Content-Type: {kind};\r\n\tboundary="{boundary}"\r\n\r\n'.encode()


def _explanation(action: Action, told: Sequence[_Entry], terms: Terms, *, whole: bool) -> bytes:
    returned = "The message is attached." if whole else "The header of the message is attached."
    lines = [f"This is the mail system at {terms.hostname}.", "", _EXPLANATIONS[action], returned, ""]
    for one in told:
        where = f" ({one.host})" if one.host else ""
        said = one.text if one.text.startswith(one.status) else f"{one.status} {one.text}"
        lines += [f"<{one_line(one.queued.address)}>{where}:", f"    {_cut(one_line(said))}"]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _status(action: Action, told: Sequence[_Entry], terms: Terms, now: float, *, utf8: bool) -> bytes:
    """RFC 3464 section 2: fields about the message, then a group about each recipient."""
    first = told[0].queued
    message = [f"Reporting-MTA: dns; {terms.hostname}"]
    if first.envid:
        message.append(f"Original-Envelope-Id: {_decoded(first.envid)}")
    message.append(f"Arrival-Date: {_moment(first.queued_at)}")
    groups = [message]
    for one in told:
        queued = one.queued
        group = [f"Original-Recipient: {_original(queued.orcpt, utf8=utf8)}"] if queued.orcpt else []
        group += [f"Final-Recipient: {_final(queued.address, utf8=utf8)}", f"Action: {action}"]
        group.append(f"Status: {one.status}")
        if one.host and not one.host.startswith("["):
            group.append(f"Remote-MTA: dns; {one.host}")
        scheme, text = ("smtp", one.reply) if one.reply else ("x-letterlock", one.text)
        group.append(f"Diagnostic-Code: {scheme}; {_cut(_ascii(one_line(text), utf8=utf8))}")
        group.append(f"Last-Attempt-Date: {_moment(now)}")
        if one.retry_until is not None:
            group.append(f"Will-Retry-Until: {_moment(one.retry_until)}")
        groups.append(group)
    return "\r\n".join("".join(f"{line}\r\n" for line in group) for group in groups).encode()


def _final(address: str, *, utf8: bool) -> str:
    address = one_line(address)
    if address.isascii():
        return f"rfc822; {address}"
    return f"utf-8; {address if utf8 else _utf8_address_xtext(address)}"


def _original(orcpt: str, *, utf8: bool) -> str:
    """ORCPT as it came, `type;xtext`, decoded (RFC 3461 section 4.2); one in UTF-8 as it is, or encoded again."""
    kind, _, address = orcpt.partition(";")
    if kind.lower() == "utf-8" and "\\x{" in address:  # utf-8-addr-xtext is its own encoding (RFC 6533)
        return one_line(orcpt)
    decoded = _decoded(address)
    return f"{one_line(kind)};{decoded if utf8 else _utf8_address_xtext(decoded)}"


def _utf8_address_xtext(address: str) -> str:
    r"""RFC 6533 section 3: each character that is not ASCII as `\x{HEX}`."""
    return "".join(one if one.isascii() else f"\\x{{{ord(one):X}}}" for one in address)


def _ascii(text: str, *, utf8: bool) -> str:
    return text if utf8 else text.encode("ascii", "replace").decode()


def _cut(text: str) -> str:
    """`text` as far as a line may hold it; never half a character."""
    return text.encode()[:_MAX_DIAGNOSTIC].decode(errors="ignore")


def _moment(time: float) -> str:
    return format_datetime(datetime.fromtimestamp(time, UTC))


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
    return one_line(_XTEXT.sub(lambda found: chr(int(found[1], 16)), xtext))
