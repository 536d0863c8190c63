"""Where messages are and what became of them, read from the spools of a member (D12).

Called by `manage.lookup`, in a process of its own: the database allows readers beside the worker, which never waits
for them. Spools of a member that does not run can be read too.
"""

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from letterlock_gateway.spool.messages import domain_of
from letterlock_gateway.spool.schema import DATABASE, VERSION

# Seconds to wait where the database is being opened or upgraded just now.
_BUSY: Final = 5.0
# The same for who asks in the midst of other work.
_AT_ONCE: Final = 0.1

# Of a queue, so many domains are named.
_DOMAINS: Final = 5
_OLDEST: Final = """
SELECT m.queued_at FROM recipient r JOIN message m ON m.mid = r.mid WHERE r.outcome IS NULL ORDER BY r.rid LIMIT 1
"""
_BY_DOMAIN: Final = "SELECT domain, COUNT(*) FROM recipient WHERE outcome IS NULL GROUP BY domain"

type Found = dict[str, Any]
"""A message as commands print it: camelCase, times as RFC 3339, nothing that is not known."""


class SpoolUnreadable(Exception):  # noqa: N818 - says what happened
    """A spool that cannot be read. The text says which, and why."""


@dataclass(frozen=True)
class Query:
    """Which messages. What is None or empty does not matter."""

    mids: Sequence[int] = ()
    sender: str | None = None
    """An address, `@domain` for all of a domain, `<>` for the null sender."""
    recipient: str | None = None
    """An address, or `@domain`."""
    message_id: str | None = None
    """With or without its angle brackets."""
    since: float | None = None
    """Accepted since then, Unix seconds."""
    waiting: bool = False
    """Only those of which a recipient waits."""
    limit: int = 100
    """The latest so many."""


def find(spool: Path, query: Query) -> list[Found]:
    """The messages of a member, latest first. `spool`: its directory. Raises SpoolUnreadable."""
    if not spool.is_dir():
        raise SpoolUnreadable(f"there is no spool in {spool}")
    found: list[Found] = []
    for directory in spools(spool):
        try:
            with contextlib.closing(open_spool(directory)) as connection:
                found += [_message(connection, mid) for mid in _mids(connection, query)]
        except (sqlite3.Error, OSError, ValueError) as problem:
            raise SpoolUnreadable(f"{directory}: {problem}") from problem
    return sorted(found, key=lambda one: one["receivedAt"], reverse=True)[: query.limit]


def oldest(spool: Path) -> float | None:
    """When the oldest message that waits was accepted, Unix seconds; None: nothing waits. Raises SpoolUnreadable."""
    found: list[float] = []
    for directory in spools(spool):
        try:
            with contextlib.closing(open_spool(directory, seconds=_AT_ONCE)) as connection:
                found += [row[0] for row in connection.execute(_OLDEST)]
        except (sqlite3.Error, OSError, ValueError) as problem:
            raise SpoolUnreadable(f"{directory}: {problem}") from problem
    return min(found, default=None)


def waiting(spool: Path) -> Found:
    """What waits in a member's queue: recipients, since when the oldest does, and the domains with most of them.

    Raises SpoolUnreadable.
    """
    if not spool.is_dir():
        raise SpoolUnreadable(f"there is no spool in {spool}")
    oldest: list[float] = []
    domains: Counter[str] = Counter()
    for directory in spools(spool):
        try:
            with contextlib.closing(open_spool(directory)) as connection:
                # Numbers rise with time: the first of the index is the oldest, and no other row is read.
                oldest += [row[0] for row in connection.execute(_OLDEST)]
                domains.update({row[0]: row[1] for row in connection.execute(_BY_DOMAIN)})
        except (sqlite3.Error, OSError, ValueError) as problem:
            raise SpoolUnreadable(f"{directory}: {problem}") from problem
    return _known(oldest=_moment(min(oldest, default=None))) | {
        "recipients": domains.total(),
        "domains": [
            {"domain": domain, "recipients": count} for domain, count in domains.most_common(_DOMAINS)
        ],
    }


def spools(spool: Path) -> Iterator[Path]:
    """The directories of a member's workers that hold a spool."""
    for one in sorted(spool.iterdir()):
        if one.name.isdecimal() and (one / DATABASE).is_file():
            yield one


def open_spool(directory: Path, seconds: float = _BUSY) -> sqlite3.Connection:
    """A connection that only reads. Raises sqlite3.Error, OSError, ValueError; the caller closes it."""
    # Not `mode=ro`: a reader of a database with a log takes part in its locks, and thus writes beside it.
    owner = (directory / DATABASE).stat().st_uid
    if os.geteuid() not in (0, owner):
        raise PermissionError(f"only the user that the gateway runs as may read it (uid {owner})")
    connection = sqlite3.connect(
        f"{(directory / DATABASE).absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=seconds,
        isolation_level=None,
    )
    connection.execute("PRAGMA query_only = ON")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        connection.close()
        raise ValueError(
            f"it has format {version}, this program reads {VERSION}: use the gateway's own version"
        )
    connection.row_factory = sqlite3.Row
    return connection


def _mids(connection: sqlite3.Connection, query: Query) -> list[int]:
    """Numbers of the messages, latest first."""
    where: list[str] = []
    values: list[object] = []

    def demand(condition: str, *of: object) -> None:
        where.append(condition)
        values.extend(of)

    if query.mids:
        demand(f"m.mid IN ({','.join('?' * len(query.mids))})", *query.mids)
    if query.message_id:
        demand("m.message_id = ?", f"<{query.message_id.strip().strip('<>')}>")
    if query.sender is not None:
        _demand_address(demand, "m.sender", query.sender)
    if query.since is not None:
        demand("m.queued_at >= ?", query.since)
    by_recipient = query.waiting or query.recipient is not None
    if query.waiting:
        demand("r.outcome IS NULL")
    if query.recipient is not None:
        if query.recipient.startswith("@"):
            demand("r.domain = ?", domain_of(query.recipient))
        else:
            demand("r.address = ? COLLATE NOCASE", query.recipient)
    tables = "recipient r JOIN message m ON m.mid = r.mid" if by_recipient else "message m"
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    statement = f"SELECT DISTINCT m.mid FROM {tables}{condition} ORDER BY m.mid DESC LIMIT ?"  # noqa: S608 - parts are ours
    return [row[0] for row in connection.execute(statement, (*values, query.limit))]


def _demand_address(demand: Callable[..., None], column: str, wanted: str) -> None:
    if wanted.startswith("@"):
        escaped = wanted.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
        demand(rf"{column} LIKE ? ESCAPE '\'", f"%{escaped}")
    else:
        demand(f"{column} = ? COLLATE NOCASE", wanted.strip("<>"))


def _message(connection: sqlite3.Connection, mid: int) -> Found:
    row = connection.execute("SELECT * FROM message WHERE mid = ?", (mid,)).fetchone()
    recipients = connection.execute(
        "SELECT * FROM recipient WHERE rid BETWEEN ? AND ? ORDER BY rid", (row["first_rid"], row["last_rid"])
    )
    return _known(
        mid=mid,
        icid=row["icid"],
        messageID=row["message_id"],
        sender=row["sender"],
        receivedAt=_moment(row["queued_at"]),
        receivedFrom=row["client"],
        receivedOver=_known(protocol=row["received_protocol"], cipher=row["received_cipher"]),
        about=row["about"],
        size=row["size"],
        envid=row["envid"],
    ) | {"sender": row["sender"], "recipients": [_recipient(one) for one in recipients]}


def _recipient(row: sqlite3.Row) -> Found:
    waits = row["outcome"] is None
    return _known(
        rid=row["rid"],
        address=row["address"],
        state=row["outcome"] or ("queued" if row["last_attempt"] is None else "deferred"),
        attempts=row["attempts"],
        finishedAt=_moment(row["finished_at"]),
        lastAttempt=_moment(row["last_attempt"]) if waits else None,
        nextAttempt=_moment(row["next_attempt"]) if waits else None,
        host=row["host"],
        ip=row["ip"],
        protocol=row["protocol"],
        cipher=row["cipher"],
        verified=None if row["verified"] is None else bool(row["verified"]),
        matchedName=row["matched_name"],
        reply=row["reply"],
        notify=row["notify"],
    )


def _known(**values: object) -> Found:
    return {key: value for key, value in values.items() if value not in (None, "", {})}


def _moment(time: float | None) -> str | None:
    return (
        None
        if time is None
        else datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    )
