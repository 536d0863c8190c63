"""Message tracking: where is a message, and how did it come and go (D12). The same as `letterlock track`."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from letterlock_gateway.spool.tracking import Query
from letterlock_gateway.web import answers
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View, asked
from letterlock_gateway.web.visits import Visit

_MOST: Final = 100
_SPANS: Final = {"": None, "1": 3600.0, "24": 86400.0, "168": 604800.0}


async def show_all(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The messages that fit what is asked, the latest first."""
    fields = {name: asked(request, name, 320) for name in ("from", "to", "id", "mid", "since")}
    span = _SPANS.get(fields["since"])
    number = fields["mid"]
    query = Query(
        mids=(int(number),) if _is_number(number) else (),
        sender=fields["from"] or None,
        recipient=fields["to"] or None,
        message_id=fields["id"] or None,
        since=None if span is None else visit.now - span,
        limit=_MOST,
    )
    found = [] if number and not _is_number(number) else await sources.find(query)
    return answers.page("messages.html", visit, {"fields": fields, "found": found, "most": _MOST})


async def show_one(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """One message; its text is never shown."""
    number = request.match_info["mid"]
    found = await sources.find(Query(mids=(int(number),))) if _is_number(number) else []
    if not found:
        raise web.HTTPNotFound
    return answers.page("message.html", visit, {"message": found[0]})


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18  # SQLite's integers


VIEWS: Final = (View("/messages", show_all), View("/messages/{mid}", show_one))
