"""Answers: templates filled in, files that come with the pages, and the headers that all of them have.

Called by `site` and the views. Everything in a template is escaped unless it is markup of the template itself; there is
no script, no style outside the style sheet, and nothing from elsewhere: the policy below says so to browsers.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final
from urllib.parse import quote

import jinja2
from aiohttp import web

from letterlock_gateway.web import shown
from letterlock_gateway.web.visits import Visit

_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: browsers would then say nothing of where a form of ours comes from (`Origin: null`).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_KINDS: Final[Mapping[str, str]] = {".css": "text/css", ".svg": "image/svg+xml"}
PAGES: Final = (
    ("/", "Overview"),
    ("/listeners", "Listeners"),
    ("/destinations", "Destinations"),
    ("/certificates", "Certificates"),
    ("/authorities", "Authorities"),
    ("/messages", "Messages"),
    ("/queue", "Queue"),
    ("/alerts", "Alerts"),
)
_PACKAGE: Final = "letterlock_gateway.web"


def page(template: str, visit: Visit | None, values: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """A page. `visit` None: for somebody who has not signed in."""
    text = (
        _environment()
        .get_template(template)
        .render(**values, visit=visit, pages=PAGES, style=_version("style.css"))
    )
    return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)


def protect(answer: web.StreamResponse, *, static: bool) -> None:
    """Give an answer the headers that every answer has."""
    answer.headers.update(_HEADERS)
    answer.headers["Server"] = "Letterlock"
    # What is shown is nobody's but the visitor's, and out of date at once; a style sheet's address names its content.
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if static else "no-store"


def static(name: str) -> web.Response | None:
    """A file that comes with the pages; None: there is no such file."""
    found = _files().get(name)
    if found is None:
        return None
    return web.Response(body=found, content_type=_KINDS[name[name.rindex(".") :]], charset="utf-8")


def download(name: str, text: str) -> web.Response:
    """A text file to keep. `name`: of a file, letters, digits and dots only."""
    answer = web.Response(text=text, content_type="text/plain", charset="utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def quoted(text: str) -> str:
    """As a value in the query of an address."""
    return quote(text, safe="")


@cache
def _files() -> Mapping[str, bytes]:
    folder = resources.files(_PACKAGE) / "static"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name.endswith(tuple(_KINDS))}


@cache
def _version(name: str) -> str:
    return f"/static/{name}?{hashlib.sha256(_files()[name]).hexdigest()[:12]}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(shown.FILTERS)
    return environment
