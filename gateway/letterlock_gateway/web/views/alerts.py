"""Alerts: who gets which, what fails in TLS now, what was told, and what ends next (D10, A5)."""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from letterlock_gateway.report import endings
from letterlock_gateway.report.tls_failures import TLS_REASONS
from letterlock_gateway.web import answers
from letterlock_gateway.web.facts import certificates, gateway
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View
from letterlock_gateway.web.visits import Visit

_MOST: Final = 50
_SECONDS_AHEAD: Final = 90 * 86400.0


async def show(
    sources: Sources, visit: Visit, _request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The page."""
    snapshot = sources.handed.snapshot
    states, tellings = await asyncio.gather(sources.states(), sources.told())
    latest: dict[str, float] = {}
    for _, domains in gateway.values(tellings):
        latest |= {domain: max(at, latest.get(domain, 0.0)) for domain, at in domains.items()}
    told = sorted(latest.items(), key=lambda one: -one[1])
    failing = [
        (one, failing)
        for one in gateway.destinations(states).values()
        for failing in one.failing
        if failing.reason in TLS_REASONS
    ]
    watched = sources.derived("watched", certificates.watched)
    ending = sorted((one for one in watched if one.end - visit.now < _SECONDS_AHEAD), key=lambda one: one.end)
    passed = {one.key for one, _ in endings.due(watched, {}, visit.now)}
    values = {
        "alerts": snapshot.alerts,
        "tls_alert": snapshot.delivery.tls_alert,
        "failing": failing[:_MOST],
        "states": states,
        "tellings": tellings,
        "told": told[:_MOST],
        "ending": ending[:_MOST],
        "passed": passed,
        "more_ending": max(0, len(ending) - _MOST),
    }
    return answers.page("alerts.html", visit, values)


VIEWS: Final = (View("/alerts", show),)
