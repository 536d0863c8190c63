"""A message on its way from one member's spool to another's, and how it comes in there: once, however often it is sent.

`handover` takes it out of the spool of a member that is to go, and hands it to `Spool.adopt` of one that stays.
"""

import sqlite3
from dataclasses import dataclass, replace
from typing import Self, override

from letterlock_gateway import values
from letterlock_gateway.spool.changes import Insert
from letterlock_gateway.spool.messages import NewMessage, Queued


@values.value
class HandedRecipient:
    """What has become of one recipient so far, beside its address and its DSN parameters."""

    rid: int
    """Its number in the spool that it comes from."""
    attempts: int
    next_attempt: float
    """Unix seconds."""
    told_delay: bool


@values.value
class Handed:
    """A message, or those of its recipients that were still to be delivered."""

    source: str
    """Identity of the spool that it comes from: together with a rid it names a recipient for ever."""
    mid: int
    """Its number there."""
    message: NewMessage
    queued_at: float
    """When it was accepted first, Unix seconds: what giving up counts from."""
    recipients: tuple[HandedRecipient, ...]
    """In the order of the message's own."""

    def without(self, known: set[int]) -> "Handed":
        """The same without the recipients of these numbers, which are here already."""
        kept = [number for number, one in enumerate(self.recipients) if one.rid not in known]
        message = replace(self.message, recipients=tuple(self.message.recipients[number] for number in kept))
        return replace(self, message=message, recipients=tuple(self.recipients[number] for number in kept))


@dataclass
class Adopt(Insert):
    """A message that another member accepted."""

    handed: Handed | None = None

    @classmethod
    def of(cls, insert: Insert, handed: Handed) -> Self:
        """The same as `insert`, as old as `handed` is."""
        return cls(
            insert.mid,
            insert.rids,
            insert.message,
            handed.queued_at,
            insert.size,
            in_file=insert.in_file,
            message_id=insert.message_id,
            handed=handed,
        )

    @override
    def apply(self, connection: sqlite3.Connection) -> None:
        """As an insert, with what has become of each recipient so far; and that it came, for the next time it comes."""
        super().apply(connection)
        for rid, one in self._pairs():
            connection.execute(
                "UPDATE recipient SET attempts = ?, next_attempt = ?, told_delay = ? WHERE rid = ?",
                (one.attempts, one.next_attempt, one.told_delay, rid),
            )
        source = self.handed.source if self.handed is not None else ""
        connection.executemany(
            "INSERT INTO adopted VALUES (?,?,?,unixepoch())",
            [(source, one.rid, self.mid) for _, one in self._pairs()],
        )

    @override
    def queued(self) -> list[Queued]:
        so_far = [one for _, one in self._pairs()]
        return [
            replace(queued, attempts=one.attempts, next_attempt=one.next_attempt, told_delay=one.told_delay)
            for queued, one in zip(super().queued(), so_far, strict=True)
        ]

    def _pairs(self) -> list[tuple[int, HandedRecipient]]:
        recipients = self.handed.recipients if self.handed is not None else ()
        return list(zip(self.rids, recipients, strict=True))
