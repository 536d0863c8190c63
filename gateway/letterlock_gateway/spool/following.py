"""What the spool keeps in memory, and how it follows the disk. Used by the spool alone."""

import sys
from collections.abc import Callable

from letterlock_gateway.spool.changes import Change, Defer, Finish, Insert
from letterlock_gateway.spool.recent import Recent
from letterlock_gateway.spool.schedule import Schedule


class Following:
    """Told of every change after its commit, on the loop and before its caller goes on."""

    def __init__(
        self, schedule: Schedule, recent: Recent, remove: Callable[[int], object], due: Callable[[], None]
    ) -> None:
        """`remove`: no message names the body's file any more. `due`: there may be something due."""
        self._schedule = schedule
        self._recent = recent
        self._remove = remove
        self._due = due

    def done(self, change: Change, problem: BaseException | None) -> None:
        """`change` is on disk, or could not be written."""
        insert = (
            change
            if isinstance(change, Insert)
            else change.notice
            if isinstance(change, Finish | Defer)
            else None
        )
        if isinstance(change, Defer):
            # Also where it could not be written: better tried later than at once and for ever.
            for rid in change.rids:
                self._schedule.defer(rid, change.next_attempt)
            self._due()
        if problem is not None:
            if insert is not None and insert.in_file:
                self._remove(insert.mid)
            return
        if isinstance(change, Finish):
            self._finished(change)
        if insert is not None:
            self._inserted(insert)

    def _finished(self, change: Finish) -> None:
        for rid in change.rids:
            self._schedule.remove(rid)
            self._recent.take(rid)
        for mid, in_file in change.emptied.items():
            self._recent.forget(mid)
            if in_file:
                self._remove(mid)

    def _inserted(self, insert: Insert) -> None:
        queued = insert.queued()
        self._recent.add(queued, insert.mid, insert.content)
        for one in queued:
            self._schedule.add(one.rid, one.next_attempt, sys.intern(one.domain))
        self._due()
