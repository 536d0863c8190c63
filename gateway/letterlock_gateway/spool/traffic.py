"""How mail came and went over the last day: what the plots of the management pages are made of.

Read from the spools as `tracking` reads them, so that it outlives restarts. A million messages take about a second, in
a process that is less urgent than mail; the pages remember the answer for a minute.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from letterlock_gateway.spool import tracking

STEPS: Final = 48
_DAY: Final = 86400.0
_STEP: Final = _DAY / STEPS


@dataclass(frozen=True)
class Series:
    """Counts of one kind, one for each step."""

    name: str
    kind: str
    values: Sequence[int]

    @property
    def total(self) -> int:
        """Of the whole day."""
        return sum(self.values)


@dataclass(frozen=True)
class Traffic:
    """A day."""

    start: float
    """Unix seconds."""
    step: float
    """Seconds."""
    incoming: tuple[Series, ...]
    """Messages that clients brought: encrypted, in clear."""
    outgoing: tuple[Series, ...]
    """Recipients delivered: verified, encrypted, in clear."""
    bounced: int


def last_day(spool: Path, now: float, give_up_after: float) -> Traffic:
    """The day before `now`. `spool`: a member's directory; `give_up_after`: seconds that mail waits at most.

    Raises SpoolUnreadable.
    """
    end = (now // _STEP + 1) * _STEP
    start = end - _DAY
    came = [[0] * STEPS for _ in range(2)]
    went = [[0] * STEPS for _ in range(3)]
    bounced = 0
    for directory in tracking.spools(spool):
        try:
            with contextlib.closing(tracking.open_spool(directory)) as connection:
                _incoming(connection, start, came)
                bounced += _outgoing(connection, start, give_up_after, went)
        except (sqlite3.Error, OSError, ValueError) as problem:
            raise tracking.SpoolUnreadable(f"{directory}: {problem}") from problem
    return Traffic(
        start=start,
        step=_STEP,
        incoming=(Series("Encrypted", "good", came[1]), Series("In clear text", "clear", came[0])),
        outgoing=(
            Series("Verified", "good", went[2]),
            Series("Encrypted", "fair", went[1]),
            Series("In clear text", "clear", went[0]),
        ),
        bounced=bounced,
    )


def _incoming(connection: sqlite3.Connection, start: float, counts: list[list[int]]) -> None:
    """Mail of clients; what was made here (bounces, alerts) has no incoming connection."""
    rows = connection.execute(
        "SELECT CAST((queued_at - ?) / ? AS INTEGER), received_protocol IS NOT NULL, count(*) FROM message"
        " WHERE mid >= ? AND queued_at >= ? AND icid != 0 GROUP BY 1, 2",
        (start, _STEP, _first_since(connection, start)[0], start),
    )
    for step, encrypted, number in rows:
        if 0 <= step < STEPS:
            counts[encrypted][step] += number


def _outgoing(
    connection: sqlite3.Connection, start: float, give_up_after: float, counts: list[list[int]]
) -> int:
    """Fills `counts`; gives how many recipients bounced."""
    rows = connection.execute(
        "SELECT CAST((finished_at - ?) / ? AS INTEGER), outcome,"
        " CASE WHEN protocol IS NULL THEN 0 WHEN verified THEN 2 ELSE 1 END, count(*) FROM recipient"
        " WHERE rid >= ? AND finished_at >= ? AND outcome IN ('delivered', 'bounced') GROUP BY 1, 2, 3",
        (start, _STEP, _first_since(connection, start - give_up_after)[1], start),
    )
    bounced = 0
    for step, outcome, how, number in rows:
        if outcome == "bounced":
            bounced += number
        elif 0 <= step < STEPS:
            counts[how][step] += number
    return bounced


def _first_since(connection: sqlite3.Connection, moment: float) -> tuple[int, int]:
    """Number and first recipient of the first message since then: numbers grow with time, and no index is needed."""
    lowest, highest = connection.execute("SELECT min(mid), max(mid) FROM message").fetchone()
    if lowest is None:
        return 0, 0
    low, high = lowest, highest + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT mid, queued_at FROM message WHERE mid >= ? ORDER BY mid LIMIT 1", (middle,)
        ).fetchone()
        if row[1] >= moment:
            high = middle
        else:
            low = row[0] + 1
    row = connection.execute(
        "SELECT mid, first_rid FROM message WHERE mid >= ? ORDER BY mid LIMIT 1", (low,)
    ).fetchone()
    return (row[0], row[1]) if row is not None else (highest + 1, 1 << 62)
