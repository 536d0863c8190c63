"""CA lists that count, the system list among them: their CAs, and each as a text file to edit and import (A1-A4)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from letterlock_api import listings
from letterlock_api.calist import SYSTEM_LIST
from letterlock_gateway.web import answers, paging
from letterlock_gateway.web.facts import chains
from letterlock_gateway.web.facts.chains import Shown
from letterlock_gateway.web.handed import Handed
from letterlock_gateway.web.sources import Sources
from letterlock_gateway.web.views.view import View, asked
from letterlock_gateway.web.visits import Visit

_KIND: Final = "CAList/"
_OFF: Final = "off"  # the digest of a list that is switched off


@dataclass(frozen=True)
class List:
    """One list."""

    name: str
    system: bool
    enabled: bool
    is_global: bool
    authorities: Sequence[Shown]

    def ends_first(self) -> Shown | None:
        """The CA that ends first."""
        return min(self.authorities, key=lambda one: one.not_after, default=None)


def lists(handed: Handed) -> list[List]:
    """All that serve this gateway, the system list first."""
    snapshot = handed.snapshot
    found = [
        List(
            name,
            name == SYSTEM_LIST,
            True,
            one.is_global,
            chains.read(handed.certificates.get(one.file, b"")),
        )
        for name, one in snapshot.trust.items()
    ]
    for key, digest in snapshot.digests.items():
        name = key.removeprefix(_KIND)
        if key.startswith(_KIND) and digest == _OFF and name not in snapshot.trust:
            found.append(List(name, name == SYSTEM_LIST, False, True, ()))
    return sorted(found, key=lambda one: (not one.system, one.name))


async def show_all(
    sources: Sources, visit: Visit, _request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The lists."""
    return answers.page("authorities.html", visit, {"lists": sources.derived("lists", lists)})


async def show_one(
    sources: Sources, visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """The CAs of one list."""
    found = _list(sources, request)
    wanted = asked(request, "q").lower()
    rows = sorted(found.authorities, key=lambda one: one.subject.lower())
    rows = [one for one in rows if wanted in one.subject.lower() or one.fingerprint.startswith(wanted)]
    return answers.page(
        "authority.html", visit, {"list": found, "page": paging.page(rows, request.query), "q": wanted}
    )


async def export(
    sources: Sources, _visit: Visit, request: web.Request, _form: Mapping[str, str]
) -> web.StreamResponse:
    """One list as a text file, as `letterlock calist export` writes it."""
    found = _list(sources, request)
    if not found.authorities:
        raise web.HTTPNotFound
    return answers.download(
        f"{re.sub(r'[^a-z0-9.-]', '-', found.name)}.txt", listings.text(found.name, found.authorities)
    )


def _list(sources: Sources, request: web.Request) -> List:
    name = request.match_info["name"]
    found = next((one for one in sources.derived("lists", lists) if one.name == name), None)
    if found is None:
        raise web.HTTPNotFound
    return found


VIEWS: Final = (
    View("/authorities", show_all),
    View("/authorities/{name}", show_one),
    View("/authorities/{name}/export.txt", export),
)
