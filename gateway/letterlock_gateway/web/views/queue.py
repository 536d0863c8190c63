"""Mail that waits, and what keeps it. The same as `letterlock queue list`."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from letterlock_gateway.spool.tracking import Query
from letterlock_gateway.web import answers
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View, asked
from letterlock_gateway.web.visits import Visit

_MOST: Final = 100


async def show(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The latest messages that wait."""
    sender, to = asked(request, "from", 320), asked(request, "to", 320)
    found = await sources.find(Query(sender=sender or None, recipient=to or None, waiting=True, limit=_MOST))
    rows = [
        (message, one)
        for message in found
        for one in message["recipients"]
        if one["state"] in {"queued", "deferred"}
    ]
    values = {
        "rows": rows[:_MOST],
        "summary": await sources.waiting(),
        "sender": sender,
        "to": to,
        "most": _MOST,
        "more": len(found) == _MOST or len(rows) > _MOST,
    }
    return answers.page("queue.html", visit, values)


VIEWS: Final = (View("/queue", show),)
