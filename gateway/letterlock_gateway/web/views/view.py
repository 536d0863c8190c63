"""What a view is: an address, and what shows it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.visits import Visit

type Show = Callable[[Sources, Visit, web.Request, Mapping[str, str]], Awaitable[web.StreamResponse]]
"""Gives the answer to somebody who is signed in; the last is the form that came, empty for a plain look."""


@dataclass(frozen=True)
class View:
    """One page."""

    path: str
    """As aiohttp's router takes it."""
    show: Show
    takes_forms: bool = False
    """Whether it can be asked by POST: for questions that make us do something."""


def asked(request: web.Request, name: str, limit: int = 256) -> str:
    """A value of the query, without blanks around it, cut to `limit` characters; empty: not given."""
    return request.query.get(name, "").strip()[:limit]
