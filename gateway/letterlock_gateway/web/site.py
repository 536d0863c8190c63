"""What the pages answer: who may see them, and which view shows what. Called by `serving`, which has the connections.

The order of every request: headers that hold for all answers, then who asks, then the view. Nothing is shown to those
who have not signed in but the page on which they do.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final, NoReturn

from aiohttp import web

from letterlock_gateway.options import Options
from letterlock_gateway.receive.access import Address, client_address
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.printable import one_line
from letterlock_gateway.tls.trust import TrustStore
from letterlock_gateway.web import answers, signing_in
from letterlock_gateway.web.handed import Handed
from letterlock_gateway.web.sessions import Session, Sessions
from letterlock_gateway.web.sources import NoAnswer, Sources
from letterlock_gateway.web.views import VIEWS, View
from letterlock_gateway.web.visits import Visit

COOKIE: Final = "__Host-letterlock"
_FORM: Final = 8192  # bytes of a form; the longest has a user and a password
_BODY_SECONDS: Final = 10.0
# Seconds for a view; a question about a domain waits for that domain's hosts.
_VIEW_SECONDS: Final = 60.0
_HOME: Final = "/"

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """The pages of one member. `show` gives what they show."""

    def __init__(self, options: Options, log: Log, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._log = log
        self._clock = clock
        self._handed: Handed | None = None
        self._sessions = Sessions(b"")
        self._passwords = signing_in.Passwords(clock)
        self._sources = Sources(options)
        self.app = web.Application(client_max_size=_FORM, middlewares=[self._whole])
        self.app.router.add_get("/static/{name}", _static)
        self.app.router.add_get("/sign-in", self._sign_in_page)
        self.app.router.add_post("/sign-in", self._sign_in)
        self.app.router.add_post("/sign-out", self._sign_out)
        for view in VIEWS:
            handler = self._shown(view)
            self.app.router.add_get(view.path, handler)
            if view.takes_forms:
                self.app.router.add_post(view.path, handler)

    def show(self, handed: Handed) -> None:
        """Show this from now on."""
        if self._handed is None or handed.secret != self._handed.secret:
            self._sessions = Sessions(handed.secret)
        self._handed = handed
        self._sources.use(handed)

    async def look(self, question: str) -> str:
        """What other members' pages get to know from this one. Raises NoAnswer."""
        if self._handed is None:
            raise NoAnswer("its management pages are starting")
        return await self._sources.look(question)

    @web.middleware
    async def _whole(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every answer has its headers, and every fault of ours is an answer."""
        try:
            async with asyncio.timeout(_VIEW_SECONDS):
                answer = await handler(request)
        except web.HTTPException as error:
            answer = error if error.status < 400 else self._trouble(request, error.status)
        except TimeoutError:
            answer = self._trouble(request, 503)
        except Exception as error:  # noqa: BLE001 - one page that fails must not take the others along
            self._log.error(f"HTTPS management: {one_line(request.path, 200)} failed: {error!r}")
            answer = self._trouble(request, 500)
        answers.protect(answer, static=request.path.startswith("/static/"))
        return answer

    def _trouble(self, request: web.Request, status: int) -> web.Response:
        return answers.page("trouble.html", None, {"status": status, "path": request.path}, status=status)

    def _shown(self, view: View) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            handed = self._ready()
            visit = self._visit(request, handed)
            if visit is None:
                raise web.HTTPSeeOther(f"/sign-in?next={answers.quoted(request.path_qs)}")
            form: dict[str, str] = {}
            if request.method == "POST":
                form = await self._form(request)
                if not self._sessions.proves(form.get("proof", ""), visit.number):
                    raise web.HTTPForbidden
            answer = await view.show(self._sources, visit, request, form)
            self._renew(request, answer, handed)
            return answer

        return handler

    def _ready(self) -> Handed:
        """What is shown. Answers 503 where nothing is, or nobody could sign in."""
        if self._handed is None or not self._handed.signs_in:
            raise web.HTTPServiceUnavailable
        return self._handed

    def _visit(self, request: web.Request, handed: Handed) -> Visit | None:
        """Who asks; None: nobody that we know."""
        session = self._session(request, handed)
        if session is not None:
            return self._signed_in(session.user, session.number, request, handed, by_password=True)
        subject = signing_in.holder(_tls(request), handed, _trust(tuple(handed.trusted())), self._clock())
        if subject is None:
            return None
        return self._signed_in(subject, f"certificate {subject}", request, handed, by_password=False)

    def _signed_in(
        self, user: str, number: str, request: web.Request, handed: Handed, *, by_password: bool
    ) -> Visit:
        return Visit(
            user=user,
            number=number,
            proof=self._sessions.proof(number),
            by_password=by_password,
            path=request.path,
            gateway=handed.snapshot.gateway,
            namespace=handed.snapshot.namespace,
            member=self._options.member,
            several=len(handed.snapshot.members) > 1,
            demo=handed.management.certificate.demo,
            now=self._clock(),
        )

    def _session(self, request: web.Request, handed: Handed) -> Session | None:
        token = request.cookies.get(COOKIE)
        return self._sessions.read(token, handed.users, self._clock()) if token else None

    def _renew(self, request: web.Request, answer: web.StreamResponse, handed: Handed) -> None:
        session = self._session(request, handed)
        if session is not None:
            token = self._sessions.renewed(session, handed.users[session.user], self._clock())
            if token is not None:
                _set_cookie(answer, token)

    async def _sign_in_page(self, request: web.Request) -> web.StreamResponse:
        handed = self._ready()
        if self._visit(request, handed) is not None:
            raise web.HTTPSeeOther(_local(request.query.get("next", "")))
        return self._sign_in_form(request, handed)

    def _sign_in_form(
        self, request: web.Request, handed: Handed, refused: signing_in.Refused | None = None, user: str = ""
    ) -> web.Response:
        status = 200
        if refused is not None:
            status = 503 if refused.busy else 429 if refused.wait else 401
        values = {
            "next": _local(request.query.get("next", "")),
            "refused": refused,
            "user": user,
            "passwords": bool(handed.users),
            "certificates": handed.management.client_certificates,
            "demo": handed.management.certificate.demo,
        }
        answer = answers.page("sign-in.html", None, values, status=status)
        if refused is not None and refused.wait:
            answer.headers["Retry-After"] = str(refused.wait)
        return answer

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        handed = self._ready()
        form = await self._form(request)
        user, password = form.get("user", ""), form.get("password", "")
        address = _address(request)
        refused = await self._passwords.judge(user, password, address, handed.users)
        who = f'"{one_line(user, 64)}" from {address}'
        if refused is not None:
            if not refused.wait:  # those who are made to wait have been heard; a log is no place to shout
                self._log.warning(f"HTTPS management: sign-in of {who} refused: {refused.text}")
            return self._sign_in_form(request, handed, refused, user)
        if user not in handed.users:  # it was a long name, cut
            raise web.HTTPBadRequest
        self._log.info(f"HTTPS management: {who} signed in")
        answer = web.HTTPSeeOther(_local(request.query.get("next", "")))
        _set_cookie(answer, self._sessions.open(user, handed.users[user], self._clock()))
        return answer

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        handed = self._ready()
        form = await self._form(request)
        session = self._session(request, handed)
        if session is not None and self._sessions.proves(form.get("proof", ""), session.number):
            self._sessions.end(session, self._clock())
            self._log.info(f'HTTPS management: "{one_line(session.user, 64)}" signed out')
        answer = web.HTTPSeeOther("/sign-in")
        answer.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
        return answer

    async def _form(self, request: web.Request) -> dict[str, str]:
        """The form that came, from a page of ours: browsers always say where a form comes from (Fetch, section 4)."""
        if not _from_here(request):
            raise web.HTTPForbidden
        if request.content_type != "application/x-www-form-urlencoded":
            raise web.HTTPUnsupportedMediaType
        async with asyncio.timeout(_BODY_SECONDS):
            given = await request.post()
        return {key: value for key, value in given.items() if isinstance(value, str)}


def _from_here(request: web.Request) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("Origin")
    return origin is not None and origin.lower() == f"https://{request.host}".lower()


def _local(target: str) -> str:
    """A path of ours to go to; anything that a browser could take for another site is the first page."""
    harmless = target.startswith("/") and not target.startswith(("//", "/sign-")) and target.isprintable()
    return target if harmless and "\\" not in target else _HOME


def _set_cookie(answer: web.StreamResponse, token: str) -> None:
    """For this browser session, of this host, of pages of ours only (RFC 6265bis sections 4.1.2, 4.1.3.2)."""
    answer.set_cookie(COOKIE, token, path="/", secure=True, httponly=True, samesite="Strict")


def _address(request: web.Request) -> Address:
    peer: Any = request.transport.get_extra_info("peername") if request.transport is not None else None
    return client_address(peer[0]) if peer else client_address("::")


def _tls(request: web.Request) -> ssl.SSLObject | None:
    return request.transport.get_extra_info("ssl_object") if request.transport is not None else None


@lru_cache(maxsize=2)
def _trust(pems: tuple[bytes, ...]) -> TrustStore:
    return TrustStore.from_pem(*pems)


async def _static(request: web.Request) -> web.StreamResponse:
    found = answers.static(request.match_info["name"])
    if found is None:
        _missing()
    return found


def _missing() -> NoReturn:
    raise web.HTTPNotFound
