"""The first page: how the member does, what goes in and out, and what needs somebody's attention."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from letterlock_api.state import MemberState
from letterlock_gateway.report import endings
from letterlock_gateway.spool.traffic import Series, Traffic
from letterlock_gateway.web import answers, plots
from letterlock_gateway.web.facts import certificates
from letterlock_gateway.web.handed import Handed
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


@dataclass(frozen=True)
class Seen:
    """A member, as it was seen from here."""

    name: str
    state: MemberState | None
    problem: str = ""


async def show(
    sources: Sources, visit: Visit, _request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The page."""
    handed = sources.handed
    state = await sources.state()
    traffic = await sources.traffic()
    listening = sum(one.listening for one in state.listeners)
    found = notices(handed, state, sources.derived("watched", certificates.watched), visit.now)
    values = {
        "state": state,
        "members": [Seen(state.member, state)],
        "handed": handed,
        "current": state.snapshot == handed.hash,
        "listening": listening,
        "notices": found[:_MOST],
        "more": max(0, len(found) - _MOST),
        "incoming": plots.plot(traffic.incoming, traffic.start, traffic.step),
        "outgoing": plots.plot(traffic.outgoing, traffic.start, traffic.step),
        "traffic": traffic,
        "shares": _shares(traffic),
    }
    return answers.page("overview.html", visit, values)


def notices(handed: Handed, state: MemberState, watched: list[endings.Watched], now: float) -> list[Notice]:
    """What needs attention, the worst first. Pure."""
    found = (
        [Notice("bad", f"Refused snapshot {state.refused}: {state.refused_reason}")] if state.refused else []
    )
    found += [Notice("bad", problem) for problem in state.problems]
    found += [
        Notice(
            "bad",
            f"Listener {one.name} does not listen: {one.problem or 'no reason given'}",
            f"/listeners/{one.name}",
        )
        for one in state.listeners
        if not one.listening
    ]
    for one in state.destinations:
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
