"""Which alerts are due now, and who gets them (D10). Pure; called by `manage.alerting`, which sends them.

A failure is told when its domain has not been told of for an hour; what fails again meanwhile is counted, and the
count goes with the next one. A member sends so many alerts an hour at most: where more domains fail than that
(a CA that many of them rest on has expired, say), one message tells of all that are left.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from letterlock_api.mailgateway import AlertType, Severity
from letterlock_api.snapshot import SnapshotAlerts
from letterlock_gateway.report.tls_failures import TLSFailure
from letterlock_gateway.spool import domain_of

PERIOD: Final = 3600.0
"""Seconds in which a domain is told of once."""
MOST: Final = 20
"""Messages that one member sends in a period: what a person can still read."""
# More than MOST messages of MOST_DOMAINS domains each would never be remembered.
_MOST_REMEMBERED: Final = 20_000


@dataclass(frozen=True)
class Told:
    """What has been told of failures."""

    domains: Mapping[str, float]
    """When each was last told of, Unix seconds."""
    messages: tuple[float, ...] = ()
    """When messages went out."""

    def after(self, group: Sequence[TLSFailure], now: float, *, sent: bool) -> "Told":
        """The same when `group` has been told of at `now`; what is older than a period is forgotten.

        `sent`: in a message; else only in the log, for want of somebody to send it to.
        """
        domains = {**self.domains, **{one.domain: now for one in group}}
        kept = sorted((at, domain) for domain, at in domains.items() if _lately(at, now))
        messages = (*self._recent(now), now) if sent else self._recent(now)
        return Told({domain: at for at, domain in kept[-_MOST_REMEMBERED:]}, messages)

    def room(self, now: float) -> int:
        """How many messages may go out at `now`."""
        return MOST - len(self._recent(now))

    def full_until(self, now: float) -> float | None:
        """When the next message may go out, Unix seconds; None: now."""
        return min(self._recent(now)) + PERIOD if self.room(now) <= 0 else None

    def _recent(self, now: float) -> tuple[float, ...]:
        return tuple(at for at in self.messages if _lately(at, now))


def _lately(at: float, now: float) -> bool:
    """Whether `at` was within a period. Its end is a sum, as `full_until` has it: a difference is rounded otherwise."""
    # A time in the future is that of a clock that has been set back since.
    return at <= now < at + PERIOD


@dataclass(frozen=True)
class Due:
    """What to tell now."""

    groups: tuple[tuple[TLSFailure, ...], ...] = ()
    """A message each."""
    bundled: tuple[str, ...] = ()
    """Domains that were told of less than a period ago: counted, and told of with a later failure."""
    again: float | None = None
    """When there is room for what could not be told now, Unix seconds; None: nothing is left."""


def due(waiting: Mapping[str, TLSFailure], told: Told, now: float) -> Due:
    """Which of the `waiting` failures are told at `now`, and in how many messages."""
    fresh = [one for one in waiting.values() if _is_news(one, told, now)]
    bundled = tuple(sorted(waiting.keys() - {one.domain for one in fresh}))
    if not fresh:
        return Due(bundled=bundled)
    if (again := told.full_until(now)) is not None:
        return Due(bundled=bundled, again=again)
    room = told.room(now)
    fresh.sort(key=lambda one: (one.at, one.domain))
    alone = fresh if len(fresh) <= room else fresh[: room - 1]
    rest = tuple(fresh[len(alone) :])
    return Due((*((one,) for one in alone), *((rest,) if rest else ())), bundled)


def _is_news(one: TLSFailure, told: Told, now: float) -> bool:
    before = told.domains.get(one.domain)
    return before is None or before > now or one.at >= before + PERIOD


@dataclass(frozen=True)
class Addressees:
    """Who gets an alert."""

    kept: tuple[str, ...]
    left_out: tuple[str, ...]
    """Their own domain cannot be reached: it would wait with the rest."""


def addressees(
    alerts: SnapshotAlerts, severity: Severity, kind: AlertType, failing: Collection[str]
) -> Addressees:
    """Who takes alerts of this severity and type, each address once. `failing`: domains that TLS fails for."""
    taking = list(dict.fromkeys(_taking(alerts, severity, kind)))
    return Addressees(
        kept=tuple(one for one in taking if domain_of(one) not in failing),
        left_out=tuple(one for one in taking if domain_of(one) in failing),
    )


def _taking(alerts: SnapshotAlerts, severity: Severity, kind: AlertType) -> Iterable[str]:
    return (one.address for one in alerts.recipients if severity in one.severities and kind in one.types)
