"""Message tracking: where is a message, and how did it come and go (D12). The same as `letterlock track`."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from letterlock_gateway.web import answers, looks
from letterlock_gateway.web.facts import gateway
from letterlock_gateway.web.looks import Search
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View, asked
from letterlock_gateway.web.visits import Visit

_SPANS: Final = {"": None, "1": 3600.0, "24": 86400.0, "168": 604800.0}


async def show_all(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The messages that fit what is asked, the latest first."""
    fields = {name: asked(request, name, 320) for name in ("from", "to", "id", "mid", "since")}
    span = _SPANS.get(fields["since"])
    number = fields["mid"]
    search = Search(
        mid=int(number) if _is_number(number) else None,
        sender=fields["from"] or None,
        recipient=fields["to"] or None,
        message_id=fields["id"] or None,
        since=None if span is None else visit.now - span,
    )
    parts = [] if number and not _is_number(number) else await sources.find(search)
    values = {"fields": fields, "found": gateway.messages(parts), "parts": parts, "most": looks.ROWS}
    return answers.page("messages.html", visit, values)


async def show_one(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """One message; its text is never shown. Each member counts for itself: `member` says whose is meant."""
    number, member = request.match_info["mid"], asked(request, "member") or visit.member
    if not _is_number(number):
        raise web.HTTPNotFound
    parts = await sources.find(Search(mid=int(number)), member)
    found = gateway.messages(parts)
    unread = next((one for one in parts if one.value is None), None)
    if not found and unread is None:
        raise web.HTTPNotFound
    values = {"number": number, "member": member, "message": found[0] if found else None, "unread": unread}
    return answers.page("message.html", visit, values)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18  # SQLite's integers


VIEWS: Final = (View("/messages", show_all), View("/messages/{mid}", show_one))
