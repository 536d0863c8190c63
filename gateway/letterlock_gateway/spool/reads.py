"""Look-ups in the database, for the reader's thread (at the start: for the one that opens the spool)."""

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from letterlock_gateway.spool.messages import Queued, Waiting

_ROWS_AT_A_TIME: Final = 500
_QUEUED: Final = (
    "SELECT rid, r.mid, address, domain, sender, attempts, queued_at, next_attempt, smtputf8, body_8bit,"
    " notify, orcpt, ret, envid, size, received_protocol, told_delay FROM recipient r JOIN message m ON m.mid = r.mid"
    " WHERE outcome IS NULL AND rid IN ({})"
)

_OF_ONE: Final = (
    " AND rid BETWEEN (SELECT first_rid FROM message WHERE mid = ?)"
    " AND (SELECT last_rid FROM message WHERE mid = ?)"
)


def recipients(connection: sqlite3.Connection, rids: Sequence[int]) -> dict[int, Queued]:
    """Those of `rids` that are neither delivered nor bounced, by number."""
    found: dict[int, Queued] = {}
    for start in range(0, len(rids), _ROWS_AT_A_TIME):
        chunk = rids[start : start + _ROWS_AT_A_TIME]
        for row in connection.execute(_QUEUED.format(",".join("?" * len(chunk))), chunk):
            values: list[Any] = list(row)
            for flag in (8, 9, 16):
                values[flag] = bool(values[flag])
            found[values[0]] = Queued(*values)
    return found


def body(connection: sqlite3.Connection, mid: int) -> bytes | None:
    """The body of `mid`; None: it is not in the database."""
    row = connection.execute("SELECT content FROM body WHERE mid = ?", (mid,)).fetchone()
    return None if row is None else row[0]


def adopted(connection: sqlite3.Connection, source: str, rids: Sequence[int]) -> dict[int, int]:
    """Those of `rids` of another spool that are here already, each with the message that they are part of here."""
    found: dict[int, int] = {}
    for start in range(0, len(rids), _ROWS_AT_A_TIME):
        chunk = rids[start : start + _ROWS_AT_A_TIME]
        marks = ",".join("?" * len(chunk))
        statement = f"SELECT rid, mid FROM adopted WHERE source = ? AND rid IN ({marks})"  # noqa: S608 - marks only
        found |= dict(connection.execute(statement, (source, *chunk)).fetchall())
    return found


def trace(connection: sqlite3.Connection, mid: int) -> tuple[str | None, str]:
    """Cipher that `mid` was received with, and who brought it."""
    statement = "SELECT received_cipher, client FROM message WHERE mid = ?"
    return connection.execute(statement, (mid,)).fetchone() or (None, "")


def waiting_domains(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    """(rid, domain) of all that is neither delivered nor bounced."""
    return connection.execute("SELECT rid, domain FROM recipient WHERE outcome IS NULL").fetchall()


def waiting(connection: sqlite3.Connection, mids: Sequence[int]) -> list[Waiting]:
    """What of these messages is neither delivered nor bounced; of all, where none is named."""
    statement = "SELECT rid, mid, address, domain FROM recipient WHERE outcome IS NULL"
    if not mids:
        return [Waiting(*row) for row in connection.execute(statement)]
    found: list[Waiting] = []
    for mid in mids:
        found += [Waiting(*row) for row in connection.execute(statement + _OF_ONE, (mid, mid))]
    return found


def waiting_times(connection: sqlite3.Connection) -> Iterator[tuple[float, int, str]]:
    """(next attempt, rid, domain) of the same; read as they are asked for."""
    rows = connection.execute("SELECT next_attempt, rid, domain FROM recipient WHERE outcome IS NULL")
    return ((time, rid, sys.intern(domain)) for time, rid, domain in rows)


def mids_in_files(connection: sqlite3.Connection) -> list[int]:
    """Messages whose body is in a file and still needed."""
    rows = connection.execute(
        "SELECT DISTINCT m.mid FROM recipient r JOIN message m ON m.mid = r.mid"
        " WHERE outcome IS NULL AND in_file"
    )
    return [row[0] for row in rows]


def highest_numbers(connection: sqlite3.Connection) -> tuple[int, int]:
    """The highest mid and rid that were ever used; 0 where there is none."""
    values: list[int | None] = []
    # One table at a time: each maximum is the last entry of an index then, and no table is read.
    for statement in (
        "SELECT max(mid) FROM message",
        "SELECT max(rid) FROM recipient",
        "SELECT max(mid) FROM forgotten",
        "SELECT max(rid) FROM forgotten",
    ):
        values += connection.execute(statement).fetchone()
    mid, rid, old_mid, old_rid = [value or 0 for value in values]
    return max(mid, old_mid), max(rid, old_rid)
