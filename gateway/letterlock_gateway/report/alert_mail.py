"""Alerts as messages. Pure; called by `manage.alerting`.

They have the null sender, so that nothing bounces to anybody and no auto-responder answers, and say that a program
wrote them (RFC 3834 section 5). Delivered like all other mail: from the queue, under the TLS policy of their domain.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from email import policy as policies
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from letterlock_api.mailgateway import AlertType, Severity
from letterlock_gateway import values
from letterlock_gateway.report.endings import ENDED, Watched
from letterlock_gateway.report.printable import one_line
from letterlock_gateway.report.tls_failures import TLSFailure
from letterlock_gateway.spool import NewMessage, NewRecipient

# Of a message about many; the log names them all.
_LISTED: Final = 50
_REASON_LIMIT: Final = 400
# Python folds a long subject before its first word, and then reads it back with a space (RFC 5322 allows 998).
_UNFOLDED: Final = policies.SMTP.clone(max_line_length=900)
_DAYS: Final = {1: "1 day"}


@values.value
class Origin:
    """Which member speaks."""

    gateway: str
    namespace: str
    member: str
    hostname: str
    sender: str | None
    """Address in From; None: alerts at the host name."""


@values.value
class Alert:
    """What is told."""

    severity: Severity
    kind: AlertType
    subject: str
    text: str


def tls_failed(group: Sequence[TLSFailure]) -> Alert:
    """Deliveries to one domain, or several, failed in TLS, which is required there."""
    first, *others = group
    if not others:
        subject = f"TLS required for {one_line(first.domain, 100)} failed: {first.reason}"
    else:
        subject = f"TLS required for {len(group)} domains failed"
    lines = [
        "Mail could not be delivered: TLS is required for the domain, and failed. Nothing was sent in clear text;",
        "the mail waits, and is tried again until its time is up.",
    ]
    for one in group[:_LISTED]:
        lines += ["", *_told_of(one)]
    if len(group) > _LISTED:
        lines += ["", f"And {len(group) - _LISTED} more domains: the log names them."]
    lines += [
        "",
        f"To see what waits: letterlock queue list --to @{one_line(first.domain, 260)}",
        "Further failures are counted, and told with the next message about the domain, in an hour at the earliest.",
    ]
    return Alert("Warning", "System", subject, "\r\n".join(lines))


def ending(severity: Severity, group: Sequence[tuple[Watched, int]]) -> Alert:
    """Certificates and CAs have ended (Critical) or are about to (Warning)."""
    (first, step), *others = group
    what = f"{_label(first)} {_when(step)}"
    more = f", and {len(others)} more" if others else ""
    lines = [
        "What has ended is not accepted any more, by other servers or by this one."
        if severity == "Critical"
        else "What ends soon should be replaced while there is time.",
    ]
    for one, passed in group[:_LISTED]:
        lines += [
            "",
            f"{_label(one)}: {_when(passed)}",
            f"  subject:     {one_line(one.subject)}",
            f"  ends:        {_moment(one.end)}",
            f"  fingerprint: {one.fingerprint}",
        ]
    if len(group) > _LISTED:
        lines += ["", f"And {len(group) - _LISTED} more: see the status of the CALists and Certificates."]
    return Alert(severity, "System", f"{what}{more}", "\r\n".join(lines))


def compose(alert: Alert, origin: Origin, to: Sequence[str], now: float) -> list[NewMessage]:
    """The messages that tell `to` (one, and one more for addresses that need SMTPUTF8)."""
    groups = [
        [one for one in to if one.isascii()],
        [one for one in to if not one.isascii()],
    ]
    return [_message(alert, origin, group, now) for group in groups if group]


def _message(alert: Alert, origin: Origin, to: Sequence[str], now: float) -> NewMessage:
    utf8 = not to[0].isascii()
    message = EmailMessage(policy=policies.SMTP)
    message["From"] = _sender(origin, utf8=utf8)
    message["Subject"] = f"[Letterlock {alert.severity}] {one_line(alert.subject, 200)}"
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    named = hashlib.sha256(f"{now}{origin.member}{alert.text}{to}".encode()).hexdigest()[:24]
    message["Message-ID"] = f"<alert-{named}@{origin.hostname}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Letterlock-Alert"] = f"severity={alert.severity}; type={alert.kind}"
    said = (
        f"{alert.text}\r\n\r\n-- \r\nGateway {origin.gateway} in namespace {origin.namespace}, member {origin.member}"
        f" ({origin.hostname}), {_moment(now)}\r\n"
    )
    message.set_content(said.replace("\r\n", "\n"), cte="quoted-printable")
    # Addresses as they stand, as in bounces: the email package would fold or encode what it does not know.
    addressed = f"To: {',\r\n '.join(f'<{one}>' for one in to)}\r\n".encode()
    return NewMessage(
        sender="",
        recipients=tuple(NewRecipient(one, notify="NEVER") for one in to),
        body=addressed + message.as_bytes(policy=_UNFOLDED),
        icid=0,
        smtputf8=utf8,
    )


def _sender(origin: Origin, *, utf8: bool) -> Address | str:
    wanted = origin.sender or ""
    if not wanted or not (utf8 or wanted.isascii()):
        wanted = f"alerts@{origin.hostname}"
    local, _, domain = wanted.rpartition("@")
    try:
        return Address("Letterlock", local, domain)
    except ValueError:
        return wanted


def _told_of(one: TLSFailure) -> list[str]:
    policy = f"DestinationControl {one.resource}" if one.resource else "the built-in default"
    lines = [
        f"Domain:   {one_line(one.domain, 260)}",
        f"Reason:   {one.reason}",
        f"Details:  {one_line(one.text, _REASON_LIMIT)}",
        f"Policy:   {policy}, {one.mode}",
    ]
    if one.host:
        lines.append(f"Next hop: {one_line(one.host, 260)}")
    lines.append(f"Last try: {_moment(one.at)}")
    if one.count > 1:
        lines.append(f"Failures: {one.count} since the last message")
    return lines


def _label(one: Watched) -> str:
    if one.kind == "CAList":
        return f"A CA in CAList {one.name}"
    return f"Certificate {one.name}" if one.name else "The demo certificate"


def _when(step: int) -> str:
    return "has expired" if step == ENDED else f"expires within {_DAYS.get(step, f'{step} days')}"


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")[:-6] + "Z"
