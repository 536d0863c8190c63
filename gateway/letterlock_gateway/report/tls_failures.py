"""Deliveries that TLS was required for and that failed in TLS, as alerts and the metric need them (D10).

Recorded by `deliver` in each worker, handed to the supervisor with the worker's next report, and told there by
`manage.alerting`. Nothing is left out for how often it happens: that is decided where all workers are seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final, Self

from letterlock_api.conditions import Reason
from letterlock_gateway import values

TLS_REASONS: Final = frozenset(
    {
        Reason.TLS_NOT_OFFERED,
        Reason.TLS_REFUSED,
        Reason.HANDSHAKE_FAILED,
        Reason.NOT_TRUSTED,
        Reason.NAME_MISMATCH,
        Reason.EXPIRED,
    }
)
"""Words for failures that TLS is the reason of."""
# Domains between two reports, or waiting to be told of. The log names them all.
MOST_DOMAINS: Final = 1000
# Of a reason, characters: peers' words are among them.
_TEXT_LIMIT: Final = 1000


@values.value
class TLSFailure:
    """What became of mail for one domain: the last attempt, and how many there were."""

    domain: str
    resource: str
    """The DestinationControl; empty: the built-in default."""
    mode: str
    reason: str
    """The one word: NameMismatch, say."""
    text: str
    """For people; with the names asked for and presented, where it is about names."""
    host: str
    at: float
    """Unix seconds."""
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        """For the channel to the supervisor."""
        return asdict(self)

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        return cls(**members)


class TLSFailures:
    """What one worker has seen since it last told. Called from one event loop."""

    def __init__(self) -> None:
        self._seen: dict[str, TLSFailure] = {}

    def record(self, failure: TLSFailure) -> None:
        """No host took mail for the domain, for want of TLS."""
        short = replace(failure, text=failure.text[:_TEXT_LIMIT])
        self._seen = merged(self._seen, [short])

    def take(self) -> list[TLSFailure]:
        """All since this was last asked, one for each domain."""
        seen, self._seen = self._seen, {}
        return list(seen.values())


def merged(known: Mapping[str, TLSFailure], fresh: Iterable[TLSFailure]) -> dict[str, TLSFailure]:
    """Both together, by domain: what was last, and how often."""
    result = dict(known)
    for one in fresh:
        before = result.get(one.domain)
        if before is not None:
            result[one.domain] = replace(one, count=before.count + one.count)
        elif len(result) < MOST_DOMAINS:
            result[one.domain] = one
    return result
