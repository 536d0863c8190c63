"""What all workers of a member count together, so that limits hold for the member: in memory that they share.

The supervisor makes the memory before it forks (`Counters.create`), every worker gets a `Tally` of it. Each worker
writes into its own table alone and reads those of all: no lock that a dead worker could hold, no message, nobody to
wait for. Who is over a limit is found by counting first and looking afterwards, so two workers at once may both refuse
the last place, and never both take it.

A table has room for 131,072 keys, eight to a bucket. Where a bucket is full, what runs out soonest makes room; a count
that never runs out and finds no room is kept by its worker alone, unseen by the others.
"""

import hashlib
import mmap
import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Self

_WAYS: Final = 8
_BUCKETS: Final = 1 << 14
_SLOTS: Final = _WAYS * _BUCKETS
_TABLE: Final = _SLOTS * 2  # 64-bit words: all keys, then all values
_WORD: Final = 8
# A value is (when it runs out, Unix seconds) << 32 | count.
_SHIFT: Final = 32
_COUNT: Final = (1 << _SHIFT) - 1
NEVER: Final = _COUNT
"""For what is taken back: it counts until then."""
# Keys, of hosts and domains that were counted last: each is asked for several times while a connection lasts.
_KNOWN: Final = 4096


class Counters:
    """The memory, and the number of tables in it."""

    def __init__(self, memory: mmap.mmap, tables: int, secret: bytes) -> None:
        self._memory = memory
        self.tables = tables
        self._secret = secret

    @classmethod
    def create(cls, tables: int) -> Self:
        """Memory that processes share which are forked afterwards; what is not used costs none."""
        return cls(mmap.mmap(-1, tables * _TABLE * _WORD), tables, os.urandom(16))

    def tally(self, table: int, clock: Callable[[], float] = time.time) -> "Tally":
        """The view of one worker. `clock` gives Unix seconds."""
        words = memoryview(self._memory).cast("Q")
        tables = [words[one * _TABLE : (one + 1) * _TABLE] for one in range(self.tables)]
        return Tally(tables, table, self._secret, clock)


class Tally:
    """One worker's counters, and what the others have counted."""

    def __init__(
        self, tables: list[memoryview], table: int, secret: bytes, clock: Callable[[], float]
    ) -> None:
        self.number = table
        self.workers = len(tables)
        self._tables = tables
        self._own = tables[table]
        self._others = [one for number, one in enumerate(tables) if number != table]
        self._secret = secret
        self._known = lru_cache(_KNOWN)(self._hash)
        self._clock = clock
        self._spilled: dict[int, int] = {}

    @classmethod
    def alone(cls, clock: Callable[[], float] = time.time) -> Self:
        """Counters that nobody shares."""
        words = memoryview(mmap.mmap(-1, _TABLE * _WORD)).cast("Q")
        return cls([words], 0, b"alone", clock)

    def key(self, *parts: str) -> int:
        """What to count under. Keyed, so that no stranger chooses who shares a bucket with whom."""
        return self._known(parts)

    def _hash(self, parts: tuple[str, ...]) -> int:
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(text, digest_size=_WORD, key=self._secret).digest()
        return int.from_bytes(digest) or 1  # 0 is an empty slot

    def add(self, key: int, amount: int, until: float = NEVER) -> None:
        """Count `amount` (negative: take back). What is counted anew runs out at `until`, Unix seconds."""
        slot = _find(self._own, key)
        if slot is None:
            self._add_new(key, amount, int(until))
            return
        value = self._own[_SLOTS + slot]
        expires, count = value >> _SHIFT, value & _COUNT
        # What is counted now runs out later than what was before, unless the clock has been set back since: that would
        # count until the clock is there again.
        ahead = expires != NEVER and expires > until
        if expires <= self._clock() or ahead:
            expires, count = int(until), 0
        count = max(0, count + amount)
        if count == 0 and expires == NEVER:
            self._own[slot] = 0
        else:
            self._own[_SLOTS + slot] = expires << _SHIFT | count

    def own(self, key: int) -> int:
        """What this worker has counted."""
        return self._spilled.get(key, 0) + _read(self._own, key, self._clock())

    def others(self, key: int) -> int:
        """What all other workers have counted."""
        now = self._clock()
        return sum(_read(one, key, now) for one in self._others)

    def by_worker(self, key: int) -> list[int]:
        """What each has counted, by number."""
        now = self._clock()
        counts = [_read(one, key, now) for one in self._tables]
        counts[self.number] += self._spilled.get(key, 0)
        return counts

    def total(self, key: int) -> int:
        """What all have counted."""
        return sum(self.by_worker(key))

    def take(self, key: int, amount: int, most: int, until: float = NEVER) -> bool:
        """Count `amount` if the total stays within `most`; False: it would not, and nothing was counted."""
        self.add(key, amount, until)
        if self.total(key) <= most:
            return True
        self.add(key, -amount, until)
        return False

    def release(self) -> None:
        """Give back all that this worker holds, for it has ended. What runs out by itself stays counted."""
        values = self._own[_SLOTS:].tolist()
        for slot, value in enumerate(values):
            if value >> _SHIFT == NEVER:
                self._own[slot] = 0
                self._own[_SLOTS + slot] = 0
        self._spilled.clear()

    def _add_new(self, key: int, amount: int, until: int) -> None:
        if key in self._spilled:
            count = self._spilled[key] + amount
            if count > 0:
                self._spilled[key] = count
            else:
                del self._spilled[key]
            return
        if amount <= 0:
            return
        slot = self._room(key)
        if slot is not None:
            self._own[slot] = 0  # nobody reads the old count under the new key
            self._own[_SLOTS + slot] = until << _SHIFT | amount
            self._own[slot] = key
        elif until == NEVER:
            self._spilled[key] = amount

    def _room(self, key: int) -> int | None:
        """A slot for a new key: an empty one, else that which runs out soonest; None: they never do."""
        base = key % _BUCKETS * _WAYS
        keys = self._own[base : base + _WAYS].tolist()
        if 0 in keys:
            return base + keys.index(0)
        values = self._own[_SLOTS + base : _SLOTS + base + _WAYS].tolist()
        soonest = min(values)
        return base + values.index(soonest) if soonest >> _SHIFT != NEVER else None


def _find(table: memoryview, key: int) -> int | None:
    base = key % _BUCKETS * _WAYS
    keys = table[base : base + _WAYS].tolist()
    return base + keys.index(key) if key in keys else None


def _read(table: memoryview, key: int, now: float) -> int:
    slot = _find(table, key)
    if slot is None:
        return 0
    value = table[_SLOTS + slot]
    return value & _COUNT if value >> _SHIFT > now else 0
