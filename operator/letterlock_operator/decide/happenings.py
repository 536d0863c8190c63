"""Events: what has changed in the conditions, in the same words. A condition that stays as it is makes none."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from letterlock_api.certificate import CertificateStatus
from letterlock_api.conditions import Condition, Reason, Type
from letterlock_api.destinationcontrol import FailingDomain
from letterlock_operator.plan import Event

_WARNINGS: Final = frozenset(
    {
        Type.WEAK_KEY,
        Type.EXPIRING_SOON,
        Type.ISSUER_NOT_TRUSTED,
        Type.NAMES_NOT_COVERED,
        Type.DEMO_CERTIFICATE,
        Type.OPEN_RELAY,
        Type.SOURCE_ADDRESS_HIDDEN,
        Type.TLS_REQUIRED_OF_ALL,
        Type.CLIENT_CERTIFICATE_AVOIDABLE,
        Type.FIELD_CONFLICT,
    }
)
# False for a moment after every change: that is no news.
_PASSING: Final = frozenset(
    {
        Reason.PENDING,
        Reason.NO_MEMBERS,
        Reason.MEMBERS_BEHIND,
        Reason.ISSUING,
        Reason.NOT_READY,
        Reason.CERTIFICATE_NOT_READY,
    }
)


def _is_news(kind: str, was: Condition, now: Condition) -> bool:
    # A CA list's ExpiringSoon says something else whenever a CA comes a step nearer to its end (A5).
    step = kind == "CAList" and now.type == Type.EXPIRING_SOON and was.message != now.message
    return step or (was.status, was.reason) != (now.status, now.reason)


def begun_to_fail(
    name: str, before: Iterable[FailingDomain], after: Sequence[FailingDomain], told: Iterable[Event]
) -> list[Event]:
    """What to tell of a DestinationControl's domains that begin to fail, or fail for another reason now.

    The condition Delivering speaks for the first of them, where it is among the Events `told`.
    """
    known = {(one.domain, one.reason) for one in before}
    if after and any(one.reason == after[0].reason for one in told):
        known.add((after[0].domain, after[0].reason))
    return [
        Event(
            "DestinationControl",
            name,
            "Warning",
            one.reason,
            f"mail for {one.domain} waits since {one.since:%Y-%m-%d %H:%M}",
        )
        for one in after
        if (one.domain, one.reason) not in known
    ]


def made_anew(
    name: str, before: CertificateStatus, after: CertificateStatus, told: Iterable[Event]
) -> list[Event]:
    """What to tell of a Certificate that was Ready and is, with another one: a renewal, or what a change brought."""
    ready = any(one.type == Type.READY and one.status == "True" for one in after.conditions)
    if (
        not ready
        or not before.fingerprint
        or not after.fingerprint
        or before.fingerprint == after.fingerprint
    ):
        return []
    if any(one.reason == Reason.ISSUED for one in told) or after.not_after is None:
        return []
    text = (
        f"another certificate, serial number {after.serial_number}, which ends on {after.not_after:%Y-%m-%d}"
    )
    return [Event("Certificate", name, "Normal", Reason.ISSUED, text)]


def news_until(before: Iterable[Condition], after: Iterable[Condition], now: datetime) -> datetime | None:
    """Until when `after` stays as it is: for good (None), unless some of it begins now: then it is of this moment."""
    known = {(one.type, one.status) for one in before}
    return None if all((one.type, one.status) in known for one in after) else now


def events(kind: str, name: str, before: Iterable[Condition], after: Iterable[Condition]) -> list[Event]:
    """What to tell of a resource whose conditions went from `before` to `after`."""
    old = {one.type: one for one in before}
    found: list[Event] = []
    for one in after:
        was = old.get(one.type)
        if one.type == Type.ISSUING or (was is not None and not _is_news(kind, was, one)):
            continue
        if one.type in _WARNINGS:
            found.append(Event(kind, name, "Warning", one.reason, one.message))
        elif one.status == "True" and one.type != Type.ACCEPTED:
            found.append(Event(kind, name, "Normal", one.reason, one.message or f"{one.type} is True"))
        elif one.status == "False" and one.reason not in _PASSING:
            found.append(Event(kind, name, "Warning", one.reason, one.message))
    # One thing that is wrong is often the reason of several conditions.
    return list({(one.reason, one.message): one for one in found}.values())
