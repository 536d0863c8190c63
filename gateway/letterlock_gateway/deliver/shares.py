"""Connections per destination (D14): no more than the limit over all workers, and each worker gets its part.

Called by `delivery` when a session begins and ends, and by sessions between messages. A worker that could not have a
connection says so in the counters for a few seconds; while somebody does, each has its share of the limit, and gives
back what it has beyond. Where there are fewer connections than workers, they take turns.
"""

from typing import Final

from letterlock_gateway.counters import Tally

# Seconds that a worker's wish counts unless it is renewed, and after which the turn goes to the next.
_WISH: Final = 3.0
_TURN: Final = 2.0
AGAIN: Final = 0.25
"""Seconds until a worker that could not have a connection asks again."""


class Shares:
    """One worker's connections among those of all."""

    def __init__(self, tally: Tally | None = None) -> None:
        """Without `tally` nobody else counts."""
        self._tally = tally or Tally.alone()

    def open(self, domain: str, limit: int, now: float) -> bool:
        """Take one more connection to `domain`; False: not now, for others have them. `now`: Unix seconds."""
        held, wish = self._keys(domain)
        if self._tally.own(held) < self._share(held, wish, limit, now) and self._tally.take(held, 1, limit):
            self._tally.add(wish, -self._tally.own(wish))
            return True
        if not self._tally.own(wish):
            self._tally.add(wish, 1, now + _WISH)
        return False

    def close(self, domain: str) -> None:
        """A connection that `open` gave is no longer needed."""
        self._tally.add(self._keys(domain)[0], -1)

    def too_many(self, domain: str, limit: int, now: float) -> bool:
        """Whether this worker has more than its share while others wait."""
        held, wish = self._keys(domain)
        return self._tally.own(held) > self._share(held, wish, limit, now)

    def _share(self, held: int, wish: int, limit: int, now: float) -> int:
        tally = self._tally
        if not tally.others(wish):
            return limit
        claims = zip(tally.by_worker(held), tally.by_worker(wish), strict=True)
        claimants = [number for number, claim in enumerate(claims) if any(claim) or number == tally.number]
        each, rest = divmod(limit, len(claimants))
        turn = (claimants.index(tally.number) - int(now / _TURN)) % len(claimants)
        return each + (turn < rest)

    def _keys(self, domain: str) -> tuple[int, int]:
        return self._tally.key("connections", domain), self._tally.key("wish", domain)
