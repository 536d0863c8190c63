"""Colours, where somebody looks: on a terminal, unless NO_COLOR asks for none (no-color.org).

Called by `output` for cells of tables. What is painted says the same without its colour.
"""

import os
import sys
from typing import Final

_CODES: Final = {"good": "32", "bad": "31", "unknown": "33", "heading": "1"}


def wanted() -> bool:
    """Whether stdout takes colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty()


def painted(text: str, style: str) -> str:
    """`text` in one of the styles (good, bad, unknown, heading) where colours are wanted; padding stays plain."""
    words = text.rstrip()
    if not words or not wanted():
        return text
    return f"\x1b[{_CODES[style]}m{words}\x1b[0m{text[len(words) :]}"


def judged(text: str) -> str:
    """A cell in the colour of what it says, if it is a condition or an end."""
    if text.startswith(("False (", "expired")) or "(expired)" in text:
        return painted(text, "bad")
    if text.startswith("Unknown ("):
        return painted(text, "unknown")
    return painted(text, "good") if text.rstrip() == "True" else text
