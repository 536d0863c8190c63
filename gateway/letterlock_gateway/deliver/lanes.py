"""What waits in memory for delivery, per recipient domain: who goes next, and who gets a connection. Pure.

A lane is one domain's: sessions work for one lane only, so a slow domain holds up none but itself. `delivery`
fills lanes from the spool and opens sessions as `wants_session` says; `session` takes jobs.
"""

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from letterlock_gateway.spool import Queued

# RFC 5321 section 4.5.3.1.8: every server takes at least 100.
MAX_RECIPIENTS: Final = 100
# Up to so many sessions a lane gets at once; beyond, one more for every two jobs that each would have to do.
_EAGER: Final = 5
# Recipients of one lane in memory: ten connections' worth of full transactions.
_LANE_RECIPIENTS: Final = 2000


@dataclass
class Job:
    """One message for recipients of one domain: one transaction."""

    mid: int
    recipients: list[Queued]

    @property
    def rids(self) -> list[int]:
        """Numbers of the recipients."""
        return [one.rid for one in self.recipients]


@dataclass
class Lane:
    """What waits for one domain."""

    domain: str
    sessions: int = 0
    """Sessions that work for it."""
    idle: int = 0
    """Of these, how many wait for a job with an open connection."""
    connected: int = 0
    """Of these, how many have a connection that mail may go over."""
    recipients: int = 0
    """Leased from the spool and not settled yet: those that wait here, and those under way."""
    paused_until: float = 0.0
    """Unix seconds: it gets no session before. No host let the last one in, or the limit of recipients per period is
    reached."""
    refused: bool = False
    """No host let the last one in: until one does, one session at a time tries."""
    _jobs: deque[Job] = field(default_factory=deque[Job])
    _open: dict[int, Job] = field(default_factory=dict[int, Job])
    """The waiting job of a message that still has room."""

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, queued: Queued) -> None:
        """`queued` waits; together with other recipients of its message where they wait too."""
        job = self._open.get(queued.mid)
        if job is None or len(job.recipients) >= MAX_RECIPIENTS:
            job = Job(queued.mid, [])
            self._jobs.append(job)
            self._open[queued.mid] = job
        job.recipients.append(queued)

    def put_back(self, job: Job) -> None:
        """`job` was taken and not done: it is the next one."""
        self._jobs.appendleft(job)

    def take(self) -> Job | None:
        """The next job, which no longer waits."""
        if not self._jobs:
            return None
        job = self._jobs.popleft()
        if self._open.get(job.mid) is job:
            del self._open[job.mid]
        return job

    def withdraw(self, rids: Collection[int]) -> list[int]:
        """Those of `rids` that wait here, which no longer do. What is under way is not among them."""
        found: list[int] = []
        for job in list(self._jobs):
            mine = [one.rid for one in job.recipients if one.rid in rids]
            if not mine:
                continue
            found += mine
            job.recipients = [one for one in job.recipients if one.rid not in rids]
            if not job.recipients:
                self._jobs.remove(job)
                if self._open.get(job.mid) is job:
                    del self._open[job.mid]
        return found

    def waiting_rids(self) -> set[int]:
        """Numbers of all that wait here."""
        return {rid for job in self._jobs for rid in job.rids}

    def wants_session(self, limit: int) -> bool:
        """Whether one more session would help, and `limit` connections allow it."""
        waiting = len(self._jobs) - self.idle
        busy = self.sessions - self.idle
        if waiting <= 0 or self.sessions >= limit or (self.refused and self.sessions > self.connected):
            return False
        return busy < _EAGER or waiting > 2 * busy


class Lanes:
    """All lanes that have jobs or sessions."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self.recipients = 0
        """Leased from the spool and not settled yet."""
        self.sessions = 0
        """Of all lanes together."""

    def add(self, queued: Queued) -> Lane:
        """`queued` waits in its domain's lane."""
        lane = self._lanes.get(queued.domain)
        if lane is None:
            lane = self._lanes[queued.domain] = Lane(queued.domain)
        lane.add(queued)
        lane.recipients += 1
        self.recipients += 1
        return lane

    def settled(self, lane: Lane, count: int) -> None:
        """So many recipients of `lane` are delivered, bounced, deferred or deleted."""
        lane.recipients -= count
        self.recipients -= count

    def room(self, domain: str, most: int) -> int:
        """How many more recipients of `domain` may come, where `most` may be here in all.

        Of what is left half, so that there is always room for the next domain, however many are slow; and no
        more than keeps the connections of one domain busy.
        """
        lane = self._lanes.get(domain)
        here = lane.recipients if lane else 0
        left = most - self.recipients + here
        return max(min(left // 2, _LANE_RECIPIENTS), 1) - here

    def withdraw(self, rids: Collection[int]) -> list[tuple[Lane, list[int]]]:
        """Those of `rids` that wait here, by lane; they no longer do."""
        found = ((lane, lane.withdraw(rids)) for lane in self._lanes.values())
        return [(lane, taken) for lane, taken in found if taken]

    def waiting_rids(self) -> set[int]:
        """Numbers of all that wait here, not under way."""
        return {rid for lane in self._lanes.values() for rid in lane.waiting_rids()}

    def resume(self) -> None:
        """No lane is paused any more: the clock that says until when was set."""
        for lane in self._lanes.values():
            lane.paused_until = 0.0

    def drop(self, lane: Lane) -> None:
        """Forget `lane` if there is nothing in it, and it is not paused."""
        if not len(lane) and not lane.sessions and not lane.paused_until:
            self._lanes.pop(lane.domain, None)

    def waiting(self, now: float) -> list[Lane]:
        """Lanes with jobs that may go, the one that got a session longest ago first. Pauses that are over are ended."""
        resumed = [lane for lane in self._lanes.values() if lane.paused_until <= now]
        for lane in resumed:
            lane.paused_until = 0.0
            self.drop(lane)
        return [lane for lane in resumed if len(lane)]

    def next_resumed(self) -> float | None:
        """When the first lane that is paused may go on; None: none is.

        That may be over already: it counts until `waiting` has shown the lane, so that no pause ends unseen.
        """
        paused = [one.paused_until for one in self._lanes.values() if len(one) and one.paused_until]
        return min(paused, default=None)

    def share(self, lane: Lane, most: int) -> int:
        """How many of `most` sessions `lane` may have: half of what the others leave, so that some is left."""
        others = self.sessions - lane.sessions
        return max((most - others) // 2, 1 if others < most else 0)

    def joined(self, lane: Lane) -> None:
        """`lane` got a session: it is the last in line for the next one."""
        lane.sessions += 1
        self.sessions += 1
        self._lanes.move_to_end(lane.domain)

    def left(self, lane: Lane) -> None:
        """A session of `lane` has ended."""
        lane.sessions -= 1
        self.sessions -= 1
