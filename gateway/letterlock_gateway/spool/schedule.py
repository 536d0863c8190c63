"""When each undelivered recipient is due, and which ones are being delivered right now. Pure.

Used by the spool alone. In memory (about 300 bytes a recipient): leases are meant to end with the process,
and a restart finds everything due as the database says.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable

type Room = Callable[[str], int]
"""How many more recipients of a domain may be leased."""


class Schedule:
    """A queue by time, with leases. Times are Unix seconds."""

    def __init__(self, waiting: Iterable[tuple[float, int, str]] = ()) -> None:
        """`waiting` are (next attempt, rid, domain)."""
        self._due: dict[int, float] = {}
        self._domains: dict[int, str] = {}
        self._of_domain: Counter[str] = Counter()
        for time, rid, domain in waiting:
            self._due[rid] = time
            self._domains[rid] = domain
            self._of_domain[domain] += 1
        # Entries whose time is no longer the one in `_due` are stale, and skipped when they come up.
        self._heap: list[tuple[float, int]] = [(time, rid) for rid, time in self._due.items()]
        heapq.heapify(self._heap)
        self._parked: dict[str, deque[tuple[float, int]]] = {}
        """What is due and waits for room, by domain: a domain that is slow must not hold up the others."""
        self._leased: dict[int, float] = {}
        self._hastened: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._due) + len(self._leased)

    def __contains__(self, rid: int) -> bool:
        return rid in self._due or rid in self._leased

    def add(self, rid: int, time: float, domain: str = "") -> None:
        """`rid` waits until `time`; one that was leased no longer is. `domain`: of a new one."""
        self._leased.pop(rid, None)
        if rid not in self._domains:
            self._domains[rid] = domain
            self._of_domain[domain] += 1
        self._due[rid] = time
        heapq.heappush(self._heap, (time, rid))

    def lease(self, now: float, limit: int, room: Room | None = None) -> list[int]:
        """Up to `limit` recipients that are due, earliest first; of no domain more than it has `room` for.

        They are leased from now on.
        """
        taken: list[int] = []
        count: Counter[str] = Counter()

        def has_room(domain: str) -> bool:
            return room is None or count[domain] < room(domain)

        def take(rid: int, time: float, domain: str) -> None:
            del self._due[rid]
            self._leased[rid] = time
            taken.append(rid)
            count[domain] += 1

        for domain, parked in list(self._parked.items()):
            while parked and len(taken) < limit and has_room(domain):
                time, rid = parked.popleft()
                if self._due.get(rid) == time:
                    take(rid, time, domain)
            if not parked:
                del self._parked[domain]
        while self._heap and self._heap[0][0] <= now and len(taken) < limit:
            time, rid = heapq.heappop(self._heap)
            if self._due.get(rid) != time:
                continue
            domain = self._domains[rid]
            if domain in self._parked or not has_room(domain):
                self._parked.setdefault(domain, deque()).append((time, rid))
            else:
                take(rid, time, domain)
        return taken

    def waits_for_room(self, domain: str) -> bool:
        """Whether something of `domain` is due that there was no room for."""
        return domain in self._parked

    def holds(self, domain: str) -> bool:
        """Whether anything of `domain` waits or is being delivered."""
        return domain in self._of_domain

    def is_leased(self, rid: int) -> bool:
        """Whether it is being delivered, or about to be."""
        return rid in self._leased

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

    def no_later_than(self, latest: float) -> int:
        """What waits for longer than until `latest` is due then: the clock was set back. Gives how many."""
        late = [rid for rid, time in self._due.items() if time > latest]
        for rid in late:
            self.add(rid, latest)
        return len(late)

    def remove(self, rid: int) -> None:
        """`rid` is finished."""
        self._due.pop(rid, None)
        self._leased.pop(rid, None)
        self._hastened.pop(rid, None)
        domain = self._domains.pop(rid, None)
        if domain is not None:
            self._of_domain[domain] -= 1
            if not self._of_domain[domain]:
                del self._of_domain[domain]

    def next_due(self) -> float | None:
        """When the first one that is neither leased nor waits for room is due; None: there is none."""
        while self._heap:
            time, rid = self._heap[0]
            if self._due.get(rid) == time:
                return time
            heapq.heappop(self._heap)
        return None
