"""The mail log: one line an event on stdout, JSON for machines or text for people.

Called by every room of the gateway. No logging framework: a line is one dictionary, one `write` (so that
lines of several processes on one pipe do not mix), and no lock. A log that cannot be written never stops
mail.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal, Self

Level = Literal["info", "warning", "error"]
_STDOUT: Final = 1
_WORDS: Final = {"info": "Info", "warning": "Warning", "error": "Critical"}


def _write(line: bytes) -> None:
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(_STDOUT, line) :]


class Log:
    """Writes events with the ids that hold a message's story together: `icid`, `mid`, `rid`, `dcid`.

    `bound`: ids that every line of this log carries. Text lines leave ids out: the messages name those that
    people look for.
    """

    def __init__(
        self,
        log_format: Literal["json", "text"] = "json",
        *,
        bound: dict[str, object] | None = None,
        clock: Callable[[], float] = time.time,
        write: Callable[[bytes], None] = _write,
    ) -> None:
        self._text = log_format == "text"
        self._bound = bound or {}
        self._clock = clock
        self._write = write

    def bind(self, **ids: object) -> Self:
        """A log whose lines carry `ids` too."""
        return type(self)(
            "text" if self._text else "json",
            bound={**self._bound, **ids},
            clock=self._clock,
            write=self._write,
        )

    def info(self, message: str, **ids: object) -> None:
        """What normally happens."""
        self._emit("info", message, ids)

    def warning(self, message: str, **ids: object) -> None:
        """What somebody should look at."""
        self._emit("warning", message, ids)

    def error(self, message: str, **ids: object) -> None:
        """What keeps mail from flowing."""
        self._emit("error", message, ids)

    def _emit(self, level: Level, message: str, ids: dict[str, object]) -> None:
        moment = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        if self._text:
            # Peers' words appear in messages: a line break in them must not make a line of its own.
            line = f"{moment[:-6]}Z {_WORDS[level]}: {message}".replace("\r", "\\r").replace("\n", "\\n")
        else:
            record: dict[str, object] = {"time": moment[:-6] + "Z", "level": level, "message": message}
            line = json.dumps(record | self._bound | ids, ensure_ascii=False, default=str)
        self._write(line.encode("utf-8", "backslashreplace") + b"\n")
