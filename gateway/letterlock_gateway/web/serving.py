"""Sockets, TLS and connections of the pages. Called by `__main__`; what is answered is decided in `site`.

A new certificate takes effect for new connections, a new port is bound before the old one is left, and every connection
is bounded: in number, in the time that a request may take to arrive, and in its whole life.
"""

import asyncio
import socket
import ssl
from collections import Counter
from typing import Any, Final, cast

from aiohttp import web

from letterlock_gateway.options import Options
from letterlock_gateway.receive.access import client_address
from letterlock_gateway.report.log import Log
from letterlock_gateway.tls import contexts
from letterlock_gateway.web.handed import Handed
from letterlock_gateway.web.site import Handler, Site
from letterlock_gateway.web.throttle import neighbourhood

_CONNECTIONS: Final = 256
_CONNECTIONS_OF_ONE: Final = 32
"""From one address (IPv6: one network of 64 bits); a browser opens six."""
_HANDSHAKE: Final = 5.0  # seconds
_HEAD: Final = 5.0  # seconds until a request has arrived with all its headers
_IDLE: Final = 30.0  # seconds between requests
_LIFE: Final = 300.0  # seconds: browsers connect anew without anybody noticing
_LINE: Final = 4096  # bytes of the request line, of one header
_BACKLOG: Final = 128


class Serving:
    """The listening socket, and the connections."""

    def __init__(self, site: Site, options: Options, log: Log) -> None:
        self._site = site
        self._options = options
        self._log = log
        self._runner: web.AppRunner | None = None
        self._bound: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        self._server: asyncio.Server | None = None
        self._served = ""
        self._count: Counter[str] = Counter()
        self._open: dict[int, _Guarded] = {}
        site.app.middlewares.append(self._watched)

    async def use(self, handed: Handed) -> None:
        """Serve by `handed` from now on. Raises OSError, BadCertificate; then all stays as it was."""
        if handed.served == self._served:
            return
        context = _context(handed)
        wanted = handed.management
        address = (self._options.bind_address(wanted.address), self._options.bind_port(wanted.port))
        bound = self._bound if self._bound is not None and address == self._address else _bind(*address)
        if self._runner is None:
            self._runner = web.AppRunner(
                self._site.app,
                handle_signals=False,
                access_log=None,
                keepalive_timeout=_IDLE,
                max_line_size=_LINE,
                max_field_size=_LINE,
                lingering_time=2.0,
            )
            await self._runner.setup()
        # Both accept from one socket for a moment: no connection is refused.
        before, old = self._server, self._bound
        self._server = await asyncio.get_running_loop().create_server(
            self._connected,
            sock=bound.dup(),
            ssl=context,
            ssl_handshake_timeout=_HANDSHAKE,
            ssl_shutdown_timeout=1.0,
            backlog=_BACKLOG,
        )
        if before is not None:
            before.close()
        if old is not None and old is not bound:
            old.close()
        self._bound, self._address, self._served = bound, address, handed.served
        certificate = wanted.certificate
        name = "the demo certificate" if certificate.demo else f"Certificate {certificate.name}"
        self._log.info(f"HTTPS management listens on {address[0] or '*'} port {address[1]} with {name}")

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
        if self._bound is not None:
            self._bound.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _connected(self) -> asyncio.Protocol:
        assert self._runner is not None  # noqa: S101 - set up before the server
        assert self._runner.server is not None  # noqa: S101 - the same
        return _Guarded(self._runner.server(), self._count, self._open)

    @web.middleware
    async def _watched(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """While a request is answered its connection waits for us, not for the other side."""
        guarded = self._open.get(id(request.transport))
        if guarded is None:
            return await handler(request)
        guarded.answers()
        try:
            return await handler(request)
        finally:
            guarded.answered()


class _Guarded(asyncio.Protocol):
    """A connection within its bounds; what arrives goes to aiohttp's own protocol."""

    def __init__(
        self, inner: web.RequestHandler, count: Counter[str], open_ones: dict[int, "_Guarded"]
    ) -> None:
        self._inner = inner
        self._count = count
        self._open = open_ones
        self._busy = 0
        self._who: str | None = None
        self._transport: asyncio.Transport | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._arriving: asyncio.TimerHandle | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, or end it at once."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is not of asyncio's class
        self._transport = transport
        peer: Any = transport.get_extra_info("peername")
        self._who = who = neighbourhood(client_address(peer[0])) if peer else "?"
        self._count[who] += 1
        if self._count.total() > _CONNECTIONS or self._count[who] > _CONNECTIONS_OF_ONE:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._timers = [loop.call_later(_LIFE, transport.abort)]
        self._arriving = loop.call_later(_HEAD, transport.abort)
        self._open[id(transport)] = self
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Hand it on; a request whose headers do not end in time ends the connection."""
        assert self._transport is not None  # noqa: S101 - made before
        if self._transport.is_closing():
            return
        self._tail = (self._tail + data)[-len(data) - 3 :]
        if self._busy:
            pass  # a body, whose reader has a time limit of its own
        elif b"\r\n\r\n" in self._tail:
            if self._arriving is not None:
                self._arriving.cancel()
                self._arriving = None
        elif self._arriving is None:
            self._arriving = asyncio.get_running_loop().call_later(_HEAD, self._transport.abort)
        self._tail = self._tail[-3:]
        self._inner.data_received(data)

    def answers(self) -> None:
        """A request has arrived, and is answered from now on."""
        self._busy += 1
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def answered(self) -> None:
        """It has been."""
        self._busy -= 1

    def eof_received(self) -> bool | None:
        """See asyncio.Protocol."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        if self._who is not None:
            self._count[self._who] -= 1
            self._count += Counter()  # drops what is 0
        self._open.pop(id(self._transport), None)
        for timer in (*self._timers, self._arriving):
            if timer is not None:
                timer.cancel()
        if self._timers:  # else aiohttp never saw it
            self._inner.connection_lost(exc)


def _context(handed: Handed) -> ssl.SSLContext:
    wanted = handed.management
    context = contexts.server_context(
        handed.pair,
        min_version="TLSv1.2",
        ciphers=None,
        client_certificates="Optional" if wanted.client_certificates else "None",
        client_ca=b"\n".join(handed.trusted()),
    )
    context.set_alpn_protocols(["http/1.1"])
    return context


def _bind(address: str, port: int) -> socket.socket:
    try:
        if not address and socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {address or '*'} port {port}: {error.strerror}") from error
