"""Certificates that are in use: whole chains, who uses them, and a timeline of their ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from letterlock_gateway.web import answers, paging
from letterlock_gateway.web.facts import certificates, chains
from letterlock_gateway.web.facts.chains import Shown
from letterlock_gateway.web.handed import Handed
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View, asked
from letterlock_gateway.web.visits import Visit

_DEMO: Final = "(demo)"
# The timeline shows the ends that come first, within about a year.
_LINES: Final = 12
_DAYS: Final = 400


@dataclass(frozen=True)
class Row:
    """One certificate resource, by the chain of it that ends first."""

    name: str
    demo: bool
    level: str
    uses: Sequence[str]
    chains: Mapping[str, Sequence[Shown]]
    leaf: Shown | None


def rows(handed: Handed) -> list[Row]:
    """All that are in use, the first to end first."""
    found: list[Row] = []
    for one in certificates.certificates(handed):
        read = {member: chains.read(pem) for member, pem in sorted(one.chains.items())}
        leaves = [chain[0] for chain in read.values() if chain]
        found.append(
            Row(
                name=one.name or _DEMO,
                demo=one.demo,
                level="Cluster" if "" in one.chains else "Machine",
                uses=one.uses,
                chains=read,
                leaf=min(leaves, key=lambda leaf: leaf.not_after, default=None),
            )
        )
    return sorted(found, key=lambda row: row.leaf.not_after.timestamp() if row.leaf else 0.0)


async def show_all(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The list and the timeline."""
    wanted = asked(request, "q").lower()
    found = sources.derived("certificates", rows)
    if wanted:
        found = [one for one in found if wanted in _text(one)]
    dated = [one for one in found if one.leaf is not None][:_LINES]
    values = {"page": paging.page(found, request.query), "q": wanted, "timeline": dated, "days": _DAYS}
    return answers.page("certificates.html", visit, values)


async def show_one(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """One certificate with its chains."""
    name = request.match_info["name"]
    found = next((one for one in sources.derived("certificates", rows) if one.name == name), None)
    if found is None:
        raise web.HTTPNotFound
    return answers.page("certificate.html", visit, {"one": found})


def _text(one: Row) -> str:
    leaf = one.leaf
    parts = [one.name, *one.uses, *((leaf.subject, leaf.issuer, *leaf.names) if leaf else ())]
    return "\n".join(parts).lower()


VIEWS: Final = (View("/certificates", show_all), View("/certificates/{name}", show_one))
