"""Long lists, a page at a time. Pure; used by the views."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

SIZE: Final = 50


@dataclass(frozen=True)
class Page[Row]:
    """Some rows of many."""

    rows: Sequence[Row]
    number: int
    """From 1."""
    pages: int
    total: int
    first: int
    """Number of the first row shown, from 1; 0: there is none."""
    asked: Mapping[str, str]
    """The other values of the query."""

    @property
    def last(self) -> int:
        """Number of the last row shown."""
        return self.first + len(self.rows) - 1 if self.rows else 0

    def link(self, number: int) -> str:
        """The query of another page."""
        return f"?{urlencode({**self.asked, 'page': str(number)})}"


def page[Row](rows: Sequence[Row], query: Mapping[str, str]) -> Page[Row]:
    """The page that `query` asks for; the nearest, where there is none of that number."""
    pages = max(1, math.ceil(len(rows) / SIZE))
    text = query.get("page", "1")
    number = min(max(int(text), 1), pages) if text.isascii() and text.isdigit() and len(text) < 9 else 1
    start = (number - 1) * SIZE
    shown = rows[start : start + SIZE]
    asked = {key: value for key, value in query.items() if key != "page" and value}
    return Page(shown, number, pages, len(rows), start + 1 if shown else 0, asked)
