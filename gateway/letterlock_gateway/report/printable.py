"""Words of others on one line: what peers say appears in reports and alerts, and must not make lines of its own."""

import re
from typing import Final

# Line ends of every kind that a mail program, or Python's email package, might take for one, among them; and halves
# of characters, which cannot be written at all.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]+")


def one_line(text: str, limit: int | None = None) -> str:
    """`text` without control characters, cut to `limit` characters."""
    plain = _CONTROLS.sub(" ", text)
    return plain if limit is None or len(plain) <= limit else plain[: limit - 1] + "…"
