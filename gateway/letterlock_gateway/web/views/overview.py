"""The first page: how the members do, what goes in and out, and what needs somebody's attention."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from letterlock_api.state import MemberState
from letterlock_gateway.report import endings
from letterlock_gateway.spool.traffic import Series, Traffic
from letterlock_gateway.web import answers, plots
from letterlock_gateway.web.facts import certificates, gateway
from letterlock_gateway.web.handed import Handed
from letterlock_gateway.web.looks import Part
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View
from letterlock_gateway.web.visits import Visit

_MOST: Final = 20


@dataclass(frozen=True)
class Notice:
    """Something that needs attention."""

    level: str
    """`bad`, or `warn`."""
    text: str
    link: str = ""


async def show(
    sources: Sources, visit: Visit, _request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The page."""
    handed = sources.handed
    members, days = await asyncio.gather(sources.states(), sources.days())
    states = gateway.values(members)
    traffic = gateway.day(days)
    found = notices(handed, members, sources.derived("watched", certificates.watched), visit.now)
    values = {
        "members": members,
        "handed": handed,
        "current": len(states) == len(members) and all(one.snapshot == handed.hash for _, one in states),
        "changing": any(one.snapshot != handed.hash for _, one in states),
        "listening": sum(one.listening for one in gateway.listeners(members).values()),
        "listeners": len(handed.snapshot.listeners),
        "queue": sum(one.queue for _, one in states),
        "notices": found[:_MOST],
        "more": max(0, len(found) - _MOST),
        "incoming": plots.plot(traffic.incoming, traffic.start, traffic.step) if traffic else None,
        "outgoing": plots.plot(traffic.outgoing, traffic.start, traffic.step) if traffic else None,
        "traffic": traffic,
        "shares": _shares(traffic) if traffic else {"incoming": None, "outgoing": None},
        "uncounted": [one for one in days if one.value is None],
    }
    return answers.page("overview.html", visit, values)


def notices(
    handed: Handed, members: Sequence[Part[MemberState]], watched: list[endings.Watched], now: float
) -> list[Notice]:
    """What needs attention, the worst first. Pure."""
    found: list[Notice] = []
    for one in members:
        state = one.value
        who = f"{one.member}: " if len(members) > 1 else ""
        if state is None:
            found.append(Notice("bad", f"Member {one.member} could not be read: {one.problem}"))
            continue
        if state.refused:
            found.append(Notice("bad", f"{who}refused snapshot {state.refused}: {state.refused_reason}"))
        found += [Notice("bad", f"{who}{problem}") for problem in state.problems]
        if any(drain.member == one.member for drain in handed.snapshot.drains):
            found.append(Notice("warn", f"Member {one.member} is to go, and {_left(state.queue)}"))
    for name, one in gateway.listeners(members).items():
        if not one.listening:
            text = f"Listener {name} does not listen: {one.problem}"
            found.append(Notice("bad", text, f"/listeners/{name}"))
    for one in gateway.destinations(members).values():
        found += [
            Notice(
                "bad",
                f"Mail for {failing.domain} cannot be delivered: {failing.reason}",
                f"/destinations?q={answers.quoted(failing.domain)}",
            )
            for failing in one.failing
        ]
    for one, step in endings.due(watched, {}, now):
        kind = "CA" if one.kind == "CAList" else "Certificate"
        link = "/authorities" if one.kind == "CAList" else "/certificates"
        name = one.name or "(demo)"
        text = (
            "has expired" if step == endings.ENDED else f"expires within {step} day{'' if step == 1 else 's'}"
        )
        found.append(
            Notice("bad" if step == endings.ENDED else "warn", f"{kind} {name} {text}: {one.subject}", link)
        )
    for name in _demo_uses(handed):
        found.append(
            Notice("warn", f"{name} runs with the demo certificate, which nobody can verify", "/certificates")
        )
    return sorted(found, key=lambda one: one.level != "bad")


def _left(queue: int) -> str:
    if not queue:
        return "holds no mail"
    return f"hands {queue} recipient{'' if queue == 1 else 's'} on to the others first"


def _demo_uses(handed: Handed) -> list[str]:
    snapshot = handed.snapshot
    uses = [f"Listener {one.name}" for one in snapshot.listeners if any(c.demo for c in one.certificates)]
    if handed.management.certificate.demo:
        uses.append("HTTPS management")
    if snapshot.delivery.certificate is not None and snapshot.delivery.certificate.demo:
        uses.append("Outgoing mail")
    return uses


def _shares(traffic: Traffic) -> dict[str, int | None]:
    """Percent of a day's mail that was encrypted; None: there was none."""
    return {
        "incoming": _percent(sum(traffic.incoming[0].values), traffic.incoming),
        "outgoing": _percent(
            sum(traffic.outgoing[0].values) + sum(traffic.outgoing[1].values), traffic.outgoing
        ),
    }


def _percent(part: int, series: tuple[Series, ...]) -> int | None:
    whole = sum(sum(one.values) for one in series)
    return None if whole == 0 else part * 100 // whole


VIEWS: Final = (View("/", show),)
