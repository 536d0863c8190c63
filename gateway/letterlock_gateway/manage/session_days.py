"""Outgoing TLS sessions, a file a day beside the spools, so that a restart loses little. Called by `member`."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from letterlock_gateway.manage.told_file import replace_file
from letterlock_gateway.report.tls_sessions import Sessions

DIRECTORY: Final = "tls-sessions"
# Days: a report is about the day before, and may be sent late.
_KEPT: Final = 4


class SessionDays:
    """The supervisor's: a file a day, in UTC."""

    def __init__(self, spool: Path) -> None:
        self._directory = spool / DIRECTORY
        self._day: date = date.min
        self._today = Sessions()
        self._changed = False

    def add(self, recorded: Iterable[Sequence[Any]], now: float) -> None:
        """What a worker recorded (`Sessions.take`)."""
        for row, count in recorded:
            self._turn(now)
            domain, host, address, kind = row
            self._today.record((domain, host, address, kind), count)
            self._changed = True

    def save(self) -> None:
        """Write today's file if there is news. Raises OSError."""
        if self._changed:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            sessions = [[*row, count] for row, count in self._today.rows()]
            content = {"day": self._day.isoformat(), "sessions": sessions}
            replace_file(self._path(self._day), json.dumps(content))
            self._changed = False

    def _turn(self, now: float) -> None:
        today = datetime.fromtimestamp(now, UTC).date()
        if today == self._day:
            return
        with contextlib.suppress(OSError):
            self.save()
        self._day, self._today = today, Sessions()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            for domain, host, address, kind, count in json.loads(self._path(today).read_bytes())["sessions"]:
                self._today.record((domain, host, address, kind), count)
        with contextlib.suppress(OSError):
            for path in self._directory.glob("????-??-??.json"):
                if path.stem < (today - timedelta(days=_KEPT)).isoformat():
                    path.unlink()

    def _path(self, day: date) -> Path:
        return self._directory / f"{day.isoformat()}.json"
