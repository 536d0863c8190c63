"""Destination controls: what holds for which domains, how their last delivery went, what would happen for a domain."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from letterlock_gateway.deliver import wording
from letterlock_gateway.manage import checking
from letterlock_gateway.web import answers, paging
from letterlock_gateway.web.facts import delivering, gateway
from letterlock_gateway.web.sources import NoAnswer, Sources
from letterlock_gateway.web.views.view import View, asked
from letterlock_gateway.web.visits import Visit

# Seconds for each step of a check: somebody waits for the page.
_STEP_SECONDS: Final = 5.0


async def show(
    sources: Sources, visit: Visit, request: web.Request, form: Mapping[str, str]
) -> web.StreamResponse:
    """The list; with `domain`, what holds for it; asked by a form, what connecting to it shows."""
    handed = sources.handed
    states = await sources.states()
    wanted, failing = asked(request, "q"), asked(request, "failing") == "1"
    text = form.get("domain", "")[:320].strip() or asked(request, "domain", 320)
    look: dict[str, Any] | None = None
    if text:
        try:
            domain = checking.domain_in(text)
        except ValueError as error:
            look = {"problem": str(error)}
        else:
            index = handed.destination_index(domain)
            its = handed.snapshot.destinations[index] if index is not None else None
            found, problem = await _checked(sources, domain) if form else (None, "")
            look = {"problem": "", "domain": domain, "policy": its, "found": found, "unanswered": problem}
    known = sources.derived("destinations", delivering.known)
    by_resource = gateway.destinations(states)
    page = paging.page(delivering.rows(known, by_resource, wanted, failing=failing), request.query)
    # Of those that do well only the ones on this page are asked for.
    asked_for = [row.known.destination.resource for row in page.rows]
    shown = gateway.destinations(await sources.states_of(asked_for))
    values = {
        "page": replace(
            page, rows=[replace(row, state=shown.get(row.known.destination.resource)) for row in page.rows]
        ),
        "states": states,
        "all": len(known),
        "failing_count": sum(bool(one.failing) for one in by_resource.values()),
        "q": wanted,
        "failing": failing,
        "text": text,
        "look": look,
        "what_happens": wording.what_happens,
        "sources": wording.SOURCES,
    }
    return answers.page("destinations.html", visit, values)


async def _checked(sources: Sources, domain: str) -> tuple[dict[str, Any] | None, str]:
    try:
        return await sources.ask(json.dumps(checking.request(domain, seconds=_STEP_SECONDS))), ""
    except NoAnswer as problem:
        return None, str(problem)


VIEWS: Final = (View("/destinations", show, takes_forms=True),)
