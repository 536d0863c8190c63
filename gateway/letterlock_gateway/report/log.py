"""The mail log: one line an event on stdout, JSON for machines or text for people.

Called by every room of the gateway. No logging framework: a line is put together from parts that are encoded once,
and what one turn of the event loop logs goes out together, so that a message's dozen lines are one system call. A
log that cannot be written never stops mail.
"""

import asyncio
import contextlib
import json
import json.encoder
import os
import select
import time
from collections.abc import Callable
from typing import Final, Literal, Self

from letterlock_gateway.report.metrics import Counts

Level = Literal["info", "warning", "error"]
_STDOUT: Final = 1
_WORDS: Final = {"info": "Info", "warning": "Warning", "error": "Critical"}
_encode: Final = json.JSONEncoder(ensure_ascii=False, default=str).encode
# What the encoder itself uses for text: nearly all that is logged is text and numbers, and asking it for each costs
# four times as much.
_quote: Final = json.encoder.encode_basestring
# The same for text in which something would not be seen, or would move what is seen, on somebody's screen.
_quote_all: Final = json.encoder.encode_basestring_ascii


class _Gathering:
    """Takes lines, and writes what one turn of the event loop brought. Where there is no loop, at once.

    No more in one write than a pipe takes as a whole (POSIX write, PIPE_BUF): lines of several processes on one pipe
    must not mix.
    """

    def __init__(self) -> None:
        self._gathered = b""

    def __call__(self, line: bytes) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _write(line)
            return
        if not self._gathered:
            loop.call_soon(self._flush)
        elif len(self._gathered) + len(line) > select.PIPE_BUF:
            _write(self._gathered)
            self._gathered = line
            return
        self._gathered += line

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, b""
        _write(gathered)


def _write(text: bytes) -> None:
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(_STDOUT, text) :]


_gathering: Final = _Gathering()


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
        write: Callable[[bytes], None] = _gathering,
        counts: Counts | None = None,
    ) -> None:
        self._text = log_format == "text"
        self._bound = bound or {}
        self._bound_encoded = _members(self._bound)
        self._clock = clock
        self._write = write
        self._second, self._moment = -1, ""
        self.counts = counts if counts is not None else Counts()
        """What is logged is also counted, here: for metrics."""

    def bind(self, **ids: object) -> Self:
        """A log whose lines carry `ids` too."""
        return type(self)(
            "text" if self._text else "json",
            bound={**self._bound, **ids},
            clock=self._clock,
            write=self._write,
            counts=self.counts,
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
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second, self._moment = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        moment = f"{self._moment}.{int((now - second) * 1000):03}Z"
        if self._text:
            line = f"{moment} {_WORDS[level]}: {message if message.isprintable() else _visible(message)}"
        else:
            quoted = _quote(message) if message.isprintable() else _quote_all(message)
            line = (
                f'{{"time": "{moment}", "level": "{level}", "message": {quoted}'
                f"{self._bound_encoded}{_members(ids)}}}"
            )
        self._write(line.encode("utf-8", "backslashreplace") + b"\n")


def _visible(message: str) -> str:
    """`message` without line breaks of any kind, terminal controls and turns of the writing's direction.

    Peers' words appear in messages: they must not make lines of their own, nor rewrite those that are there.
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in message)


def _members(ids: dict[str, object]) -> str:
    """`ids` as the rest of a JSON object that has begun."""
    return "".join([f', "{key}": {_value(value)}' for key, value in ids.items()])


def _value(value: object) -> str:
    # Exactly these types: a bool is an int, and written otherwise.
    if type(value) is int:
        return str(value)
    return _quote(value) if type(value) is str else _encode(value)
