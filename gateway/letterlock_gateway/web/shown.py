"""How values look on a page: times, sizes, counts. Pure; filters of the templates."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def moment(value: datetime | str | float | None) -> str:
    """A point in time, UTC."""
    found = _datetime(value)
    return "–" if found is None else f"{found.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def day(value: datetime | str | float | None) -> str:
    """The day of a point in time."""
    found = _datetime(value)
    return "–" if found is None else f"{found.astimezone(UTC):%Y-%m-%d}"


def ago(value: datetime | str | float | None, now: float) -> str:
    """How long ago that was, or how long it will be."""
    found = _datetime(value)
    if found is None:
        return "–"
    seconds = now - found.timestamp()
    words = span(abs(seconds))
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def span(seconds: float) -> str:
    """A length of time in one unit."""
    for unit, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if seconds >= unit:
            number = int(seconds // unit)
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "less than a minute"


def size(count: int | None) -> str:
    """Bytes, in the unit that people use for so many."""
    if count is None:
        return "–"
    number = float(count)
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plain(text: object) -> str:
    """Words of strangers: what does not print is shown as that. Bidirectional controls are among it."""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for char in str("" if text is None else text)
    )


def path(text: str) -> str:
    """As a part of an address's path."""
    return quote(text, safe="")


def _datetime(value: datetime | str | float | None) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return datetime.fromtimestamp(value, UTC)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "moment": moment,
    "day": day,
    "ago": ago,
    "span": span,
    "size": size,
    "count": count,
    "plain": plain,
    "path": path,
}
