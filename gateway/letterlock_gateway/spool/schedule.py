"""When each undelivered recipient is due, and which ones are being delivered right now. Pure.

Used by the spool alone. In memory (about 150 bytes a recipient): leases are meant to end with the process,
and a restart finds everything due as the database says.
"""

import heapq
from collections.abc import Iterable


class Schedule:
    """A queue by time, with leases. Times are Unix seconds."""

    def __init__(self, waiting: Iterable[tuple[float, int]] = ()) -> None:
        """`waiting` are (next attempt, rid)."""
        self._due: dict[int, float] = {rid: time for time, rid in waiting}
        # Entries whose time is no longer the one in `_due` are stale, and skipped when they come up.
        self._heap: list[tuple[float, int]] = [(time, rid) for rid, time in self._due.items()]
        heapq.heapify(self._heap)
        self._leased: dict[int, float] = {}
        self._hastened: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._due) + len(self._leased)

    def __contains__(self, rid: int) -> bool:
        return rid in self._due or rid in self._leased

    def add(self, rid: int, time: float) -> None:
        """`rid` waits until `time`; one that was leased no longer is."""
        self._leased.pop(rid, None)
        self._due[rid] = time
        heapq.heappush(self._heap, (time, rid))

    def lease(self, now: float, limit: int) -> list[int]:
        """Up to `limit` recipients that are due, earliest first. They are leased from now on."""
        taken: list[int] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < limit:
            time, rid = heapq.heappop(self._heap)
            if self._due.get(rid) != time:
                continue
            del self._due[rid]
            self._leased[rid] = time
            taken.append(rid)
        return taken

    def release(self, rid: int) -> None:
        """Give a lease back: the recipient is due as before."""
        if rid in self._leased:
            self.add(rid, min(self._leased[rid], self._hastened.pop(rid, self._leased[rid])))

    def defer(self, rid: int, time: float) -> None:
        """End a lease; the recipient waits until `time`, or less where it was hastened meanwhile."""
        if rid in self:
            self.add(rid, min(time, self._hastened.pop(rid, time)))

    def hasten(self, rid: int, now: float) -> None:
        """`rid` is due now. One that is being delivered will be right after its deferral."""
        if rid in self._leased:
            self._hastened[rid] = now
        elif self._due.get(rid, now) > now:
            self.add(rid, now)

    def remove(self, rid: int) -> None:
        """`rid` is finished."""
        self._due.pop(rid, None)
        self._leased.pop(rid, None)
        self._hastened.pop(rid, None)

    def next_due(self) -> float | None:
        """When the first one that is not leased is due; None: there is none."""
        while self._heap:
            time, rid = self._heap[0]
            if self._due.get(rid) == time:
                return time
            heapq.heappop(self._heap)
        return None
