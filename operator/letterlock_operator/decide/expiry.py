"""CAs that are about to end: said 90, 60, 30, 15, 5 and 1 days ahead (A5). Called by `authorities`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from letterlock_api.calist import ExpiringCertificate
from letterlock_api.conditions import Reason, Type
from letterlock_operator.decide.imports import Entry
from letterlock_operator.decide.verdicts import Verdict, true

STEPS: Final = (1, 5, 15, 30, 60, 90)
"""Days ahead."""
# Per step; a condition's message ends at 1024 characters.
_NAMED: Final = 2
_NAME: Final = 40


def warning(entries: Sequence[Entry], now: datetime) -> Verdict | None:
    """What is to be said of `entries` at `now`; None: none ends soon.

    The message stays the same until a CA passes a step, and then changes: each step is an Event of its own.
    """
    passed: dict[int, list[Entry]] = {}
    for one in sorted(entries, key=lambda one: (one.not_after, one.subject, one.fingerprint)):
        step = _step(one, now)
        if step is not None:
            passed.setdefault(step, []).append(one)
    if not passed:
        return None
    said = "; ".join(f"within {_days(step)}: {_named(passed[step])}" for step in sorted(passed))
    advice = "list what replaces them, for peers that they signed are not trusted after that"
    return true(Type.EXPIRING_SOON, Reason.EXPIRING_SOON, f"CAs that end {said}: {advice}")


def ends_next(entries: Sequence[Entry]) -> ExpiringCertificate | None:
    """The certificate that ends first."""
    first = min(entries, key=lambda one: (one.not_after, one.fingerprint), default=None)
    return None if first is None else ExpiringCertificate(subject=first.subject, not_after=first.not_after)


def next_change(entries: Sequence[Entry], now: datetime) -> datetime | None:
    """When something is to be said next, or a certificate ends; None: never."""
    moments = (one.not_after - timedelta(days=days) for one in entries for days in (0, *STEPS))
    return min((moment for moment in moments if moment > now), default=None)


def _step(entry: Entry, now: datetime) -> int | None:
    left = entry.not_after - now
    if left <= timedelta(0):
        return None
    return next((days for days in STEPS if left <= timedelta(days=days)), None)


def _named(entries: Sequence[Entry]) -> str:
    names = [f"{_short(one.subject)} ({one.not_after:%Y-%m-%d})" for one in entries[:_NAMED]]
    more = len(entries) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _short(subject: str) -> str:
    return subject if len(subject) <= _NAME else subject[: _NAME - 1] + "…"


def _days(step: int) -> str:
    return "1 day" if step == 1 else f"{step} days"
