"""Listeners: the summary of all, and of each its policies, host access and recipients."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from letterlock_gateway.web import answers, paging
from letterlock_gateway.web.facts import gateway, listening
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View, asked
from letterlock_gateway.web.visits import Visit


async def show_all(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The summary (L5)."""
    states = await sources.states()
    rows = listening.summaries(sources.handed.snapshot.listeners, gateway.listeners(states))
    wanted = asked(request, "q").lower()
    if wanted:
        rows = [one for one in rows if wanted in one.listener.name.lower() or wanted in one.interface]
    return answers.page(
        "listeners.html", visit, {"page": paging.page(rows, request.query), "q": wanted, "states": states}
    )


async def show_one(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """One listener, and which group an address would match."""
    name = request.match_info["name"]
    found = next((one for one in sources.handed.snapshot.listeners if one.name == name), None)
    if found is None:
        raise web.HTTPNotFound
    states = await sources.states()
    address, host = asked(request, "address"), asked(request, "host")
    values = {
        "one": listening.summaries([found], gateway.listeners(states))[0],
        "states": states,
        "listener": found,
        "address": address,
        "host": host,
        "belongs": listening.belongs(found, address, host.split()) if address else None,
    }
    return answers.page("listener.html", visit, values)


VIEWS: Final = (View("/listeners", show_all), View("/listeners/{name}", show_one))
