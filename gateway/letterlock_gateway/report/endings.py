"""Certificates and CAs that are about to end, and the steps at which that is told (D10, A5). Pure.

Called by `manage.alerting`. CAs: 90, 60, 30, 15, 5 and 1 days ahead. Certificates: those of the same steps that lie in
the last fifth of their life, for what is renewed in time is renewed long before (a third of it ahead), and nobody
should hear of it. What has ended is told once more, as Critical.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from letterlock_gateway import values

STEPS: Final = (90, 60, 30, 15, 5, 1)
"""Days ahead."""
ENDED: Final = 0
_DAY: Final = 86400.0
_SHARE: Final = 5
# Days after its end for which it is known that something was told: it may come back into use.
_REMEMBERED: Final = 100
_SUBJECT_LIMIT: Final = 120

Kind = Literal["Certificate", "CAList"]


@values.value
class Watched:
    """Something in use that will end. Times are Unix seconds."""

    kind: Kind
    name: str
    """Of the resource; empty: the demo certificate."""
    subject: str
    fingerprint: str
    start: float
    end: float

    @property
    def key(self) -> str:
        """What is remembered by: one certificate may be served under several names."""
        return f"{self.kind}/{self.name}/{self.fingerprint}"


type Remembered = Mapping[str, tuple[int, float]]
"""By `Watched.key`: the last step that was told, and the end."""


def watched(kind: Kind, name: str, certificates: Iterable[x509.Certificate]) -> list[Watched]:
    """What is to be watched of a resource's certificates: each CA; of a chain what ends first."""
    found = [
        Watched(
            kind=kind,
            name=name,
            subject=one.subject.rfc4514_string()[:_SUBJECT_LIMIT] or "(no subject)",
            fingerprint=one.fingerprint(hashes.SHA256()).hex(),
            start=one.not_valid_before_utc.timestamp(),
            end=one.not_valid_after_utc.timestamp(),
        )
        for one in certificates
    ]
    if kind == "Certificate":
        return sorted(found, key=lambda one: one.end)[:1]
    return found


def due(watching: Iterable[Watched], told: Remembered, now: float) -> list[tuple[Watched, int]]:
    """What has passed a step that it was not told of yet, the first to end first; the step: days, or ENDED."""
    passed: dict[str, tuple[Watched, int]] = {}
    for one in watching:
        step = _step(one, now)
        if step is not None and (one.key not in told or step < told[one.key][0]):
            passed[one.key] = (one, step)
    return sorted(passed.values(), key=lambda found: (found[0].end, found[0].key))


def remembered(told: Remembered, fresh: Iterable[tuple[Watched, int]], now: float) -> Remembered:
    """`told`, when `fresh` have been told too; what ended long ago is forgotten."""
    both = {**told, **{one.key: (step, one.end) for one, step in fresh}}
    return {key: (step, end) for key, (step, end) in both.items() if now - end < _REMEMBERED * _DAY}


def next_step(watching: Iterable[Watched], now: float) -> float | None:
    """When the next step is passed, Unix seconds; None: never."""
    moments = (one.end - days * _DAY for one in watching for days in (*_steps(one), ENDED))
    return min((moment for moment in moments if moment > now), default=None)


def _step(one: Watched, now: float) -> int | None:
    left = one.end - now
    if left <= 0:
        return ENDED
    return next((days for days in sorted(_steps(one)) if left <= days * _DAY), None)


def _steps(one: Watched) -> tuple[int, ...]:
    if one.kind == "CAList":
        return STEPS
    return tuple(days for days in STEPS if days * _DAY <= (one.end - one.start) / _SHARE)
