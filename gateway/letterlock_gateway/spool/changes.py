"""What the writer can be asked to do: each change is a value, applied inside a transaction that others share.

`apply` runs in the writer's thread and touches nothing but the connection it is given. It may run twice: when
a transaction fails, its changes are tried again one by one.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from letterlock_gateway import values
from letterlock_gateway.spool.contents import Content
from letterlock_gateway.spool.drafts import Draft
from letterlock_gateway.spool.messages import NewMessage, Queued, domain_of


class Change(Protocol):
    """A change of the database."""

    def apply(self, connection: sqlite3.Connection) -> None:
        """Carry it out. Raises sqlite3.Error."""
        ...


@dataclass
class Insert:
    """A new message."""

    mid: int
    rids: range
    """Numbers of the recipients, in their order."""
    message: NewMessage
    queued_at: float
    size: int
    """Of the body, octets."""
    in_file: bool
    draft: Draft | None = None
    """Where the body lies, if it came in pieces; the message's own is empty then."""
    message_id: str = ""

    @property
    def content(self) -> Content | None:
        """What the delivery has to know of the body; None: that has to be read from its file."""
        return Content.of(self.message.body) if self.draft is None else self.draft.content

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write message, body (unless it is in a file) and recipients."""
        message, rids = self.message, self.rids
        connection.execute(
            "INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                self.mid,
                message.sender,
                message.icid,
                self.queued_at,
                self.size,
                message.smtputf8,
                message.body_8bit,
                message.ret,
                message.envid,
                message.received_protocol,
                message.received_cipher,
                self.in_file,
                rids[0],
                rids[-1],
                self.message_id,
                message.client,
                message.about,
            ),
        )
        if not self.in_file:
            connection.execute("INSERT INTO body VALUES (?,?)", (self.mid, message.body))
        connection.executemany(
            "INSERT INTO recipient (rid, mid, address, domain, notify, orcpt, next_attempt)"
            " VALUES (?,?,?,?,?,?,?)",
            [
                (rid, self.mid, to.address, domain_of(to.address), to.notify, to.orcpt, self.queued_at)
                for rid, to in zip(rids, message.recipients, strict=True)
            ],
        )

    def queued(self) -> list[Queued]:
        """Its recipients, as a look-up right after the commit would give them."""
        message = self.message
        return [
            Queued(
                rid=rid,
                mid=self.mid,
                address=to.address,
                domain=domain_of(to.address),
                sender=message.sender,
                attempts=0,
                queued_at=self.queued_at,
                next_attempt=self.queued_at,
                smtputf8=message.smtputf8,
                body_8bit=message.body_8bit,
                notify=to.notify,
                orcpt=to.orcpt,
                ret=message.ret,
                envid=message.envid,
                size=self.size,
                received_protocol=message.received_protocol,
            )
            for rid, to in zip(self.rids, message.recipients, strict=True)
        ]


@values.value
class Hop:
    """Where a recipient's mail went, or did not, for tracking. None: it came to no host, or to no TLS."""

    host: str | None = None
    address: str | None = None
    protocol: str | None = None
    cipher: str | None = None
    verified: bool | None = None
    matched_name: str | None = None

    def columns(self) -> tuple[object, ...]:
        """Values for host, ip, protocol, cipher, verified, matched_name."""
        return (self.host, self.address, self.protocol, self.cipher, self.verified, self.matched_name)


@dataclass
class Finish:
    """Recipients that need no more delivery.

    A bounce message, where there is one, comes in the same transaction.
    """

    rids: Sequence[int]
    outcome: Literal["delivered", "bounced", "deleted", "moved"]
    at: float
    hop: Hop
    reply: str
    notice: Insert | None = None
    emptied: dict[int, bool] = field(default_factory=dict[int, bool])
    """Result: messages that have no recipient left, and whether their body is in a file."""

    def apply(self, connection: sqlite3.Connection) -> None:
        """Set the outcome; remove bodies that nobody needs any more."""
        self.emptied.clear()
        mids: set[int] = set()
        for rid in self.rids:
            mids.update(
                row[0]
                for row in connection.execute(
                    "UPDATE recipient SET outcome = ?, finished_at = ?, host = ?, ip = ?, protocol = ?,"
                    " cipher = ?, verified = ?, matched_name = ?, reply = ? WHERE rid = ? AND outcome IS NULL"
                    " RETURNING mid",
                    (self.outcome, self.at, *self.hop.columns(), self.reply, rid),
                ).fetchall()
            )
        for mid in mids:
            row = connection.execute(
                "SELECT in_file FROM message WHERE mid = ? AND NOT EXISTS (SELECT 1 FROM recipient"
                " WHERE rid BETWEEN message.first_rid AND message.last_rid AND outcome IS NULL)",
                (mid,),
            ).fetchone()
            if row is not None:
                self.emptied[mid] = bool(row[0])
                connection.execute("DELETE FROM body WHERE mid = ?", (mid,))
        if self.notice is not None:
            self.notice.apply(connection)


@dataclass
class Defer:
    """Recipients that are to be tried again."""

    rids: Sequence[int]
    next_attempt: float
    reason: str
    at: float
    hop: Hop
    notice: Insert | None = None
    """Tells the sender of the delay; these recipients are told of no second time."""

    def apply(self, connection: sqlite3.Connection) -> None:
        """Count the attempt."""
        connection.executemany(
            "UPDATE recipient SET attempts = attempts + 1, next_attempt = ?, reply = ?, last_attempt = ?,"
            " host = ?, ip = ?, told_delay = told_delay OR ? WHERE rid = ? AND outcome IS NULL",
            [
                (
                    self.next_attempt,
                    self.reason,
                    self.at,
                    self.hop.host,
                    self.hop.address,
                    self.notice is not None,
                    rid,
                )
                for rid in self.rids
            ],
        )
        if self.notice is not None:
            self.notice.apply(connection)


@dataclass
class Hasten:
    """Recipients that are due now."""

    rids: Sequence[int]
    now: float

    def apply(self, connection: sqlite3.Connection) -> None:
        """Set the time, unless it has come already."""
        connection.executemany(
            "UPDATE recipient SET next_attempt = ? WHERE rid = ? AND outcome IS NULL AND next_attempt > ?",
            [(self.now, rid, self.now) for rid in self.rids],
        )


@dataclass
class Prune:
    """What was finished before a moment is forgotten: up to so many messages, in the order of their numbers."""

    after: int
    """The mid to go on behind."""
    before: float
    limit: int = 500
    reached: int | None = None
    """Result: the last mid that was looked at; None: there are no more."""

    def apply(self, connection: sqlite3.Connection) -> None:
        """Remove messages of which no recipient waits, and that ended before `before`."""
        rows = connection.execute(
            "SELECT mid, first_rid, last_rid, queued_at FROM message WHERE mid > ? ORDER BY mid LIMIT ?",
            (self.after, self.limit),
        ).fetchall()
        # Numbers grow with time: the first one that is too young ends it.
        old = [row for row in rows if row[3] < self.before]
        self.reached = rows[-1][0] if len(old) == self.limit else None
        for mid, first, last, _ in old:
            open_or_fresh = connection.execute(
                "SELECT 1 FROM recipient WHERE rid BETWEEN ? AND ? AND (outcome IS NULL OR finished_at >= ?) LIMIT 1",
                (first, last, self.before),
            ).fetchone()
            if open_or_fresh is None:
                connection.execute("DELETE FROM recipient WHERE rid BETWEEN ? AND ?", (first, last))
                connection.execute("DELETE FROM adopted WHERE mid = ?", (mid,))
                connection.execute(
                    "INSERT INTO forgotten VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET"
                    " mid = max(mid, excluded.mid), rid = max(rid, excluded.rid)",
                    (mid, last),
                )
                connection.execute("DELETE FROM message WHERE mid = ?", (mid,))
