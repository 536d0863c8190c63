"""Mail that waits, and what keeps it. The same as `letterlock queue list`."""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from letterlock_gateway.web import answers, looks
from letterlock_gateway.web.facts import gateway
from letterlock_gateway.web.looks import Search
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View, asked
from letterlock_gateway.web.visits import Visit


async def show(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The latest messages that wait."""
    sender, to = asked(request, "from", 320), asked(request, "to", 320)
    search = Search(sender=sender or None, recipient=to or None, waiting=True)
    parts, sums = await asyncio.gather(sources.find(search), sources.waiting())
    found = gateway.messages(parts)
    rows = [(message, one) for message in found for one in message["recipients"]]
    values = {
        "rows": rows[: looks.ROWS],
        "summary": gateway.waiting(sums),
        "parts": parts,
        "sums": sums,
        "sender": sender,
        "to": to,
        "most": looks.ROWS,
        "more": len(found) == looks.ROWS or sum(one["recipientCount"] for one in found) > looks.ROWS,
    }
    return answers.page("queue.html", visit, values)


VIEWS: Final = (View("/queue", show),)
