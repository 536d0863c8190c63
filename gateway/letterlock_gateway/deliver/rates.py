"""Recipients per period and domain (D14). Pure; called by `session` before each transaction."""

from collections import deque
from typing import Final

# Domains that are remembered at most; beyond, those are forgotten whose periods are over.
_SWEEP_AT: Final = 10_000


class Rates:
    """What was sent in the running periods."""

    def __init__(self) -> None:
        self._sent: dict[str, deque[tuple[float, int]]] = {}

    def take(self, domain: str, recipients: int, *, count: int, period: float, now: float) -> float:
        """0: so many recipients may go now, and count from now on. Else: when to ask again, Unix seconds.

        A message with more recipients than `count` goes when nothing else does.
        """
        if len(self._sent) > _SWEEP_AT:
            self._sent = {one: sent for one, sent in self._sent.items() if sent[-1][0] > now - period}
        sent = self._sent.setdefault(domain, deque())
        while sent and sent[0][0] <= now - period:
            sent.popleft()
        total = sum(number for _, number in sent)
        if not sent or total + recipients <= count:
            sent.append((now, recipients))
            return 0.0
        # When enough of what was sent is a period ago.
        for time, number in sent:
            total -= number
            if total + recipients <= count:
                return time + period
        return sent[-1][0] + period
