"""One connection: the thin shell around a session. Reads and writes, shakes hands, stores, keeps time, logs.

Made by `reception` for every accepted connection; it keeps the terms it began with until it ends.
"""

import asyncio
import ssl
from collections.abc import Coroutine
from enum import Enum, auto
from socket import socket
from typing import Any, cast

from letterlock_gateway.receive import (
    access,
    admission,
    clients,
    handshakes,
    proxy,
    replies,
    sockets,
    storing,
    times,
)
from letterlock_gateway.receive.access import Address, Match, NamesNeeded
from letterlock_gateway.receive.actions import Action, Close, StartTLS, Store
from letterlock_gateway.receive.hub import Hub
from letterlock_gateway.receive.limits import Quota
from letterlock_gateway.receive.orders import Phase
from letterlock_gateway.receive.session import Session
from letterlock_gateway.receive.terms import ListenerTerms, Terms


class _Mode(Enum):
    PROXY = auto()
    """Waits for a PROXY header."""
    NAMES = auto()
    """Waits for the client's names."""
    BEFORE_HANDSHAKE = auto()
    """STARTTLS has been answered: whatever comes in clear now is an intruder's."""
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()


class Connection(asyncio.Protocol):
    """The protocol object of one connection."""

    def __init__(self, hub: Hub, listener: ListenerTerms) -> None:
        self._hub = hub
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._mode = _Mode.NAMES
        self._session: Session | None = None
        self._terms: Terms | None = None
        self._icid = 0
        self._address = ""
        self._host = ""
        self._early = b""
        self._busy = False
        self._eof = False
        self._initiated = False
        self._held = 0
        self._lost = False
        self.deadline = times.NEVER
        """When the reception calls `time_out`, in the event loop's time."""

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is."""
        self._transport = cast("asyncio.Transport", transport)
        if self._mode is _Mode.HANDSHAKE:  # SMTPS: everything up to here has been done before
            return
        self._hub.entered(self)
        peer = transport.get_extra_info("peername")
        if not peer:  # it has gone already
            self._abort()
            return
        address = access.client_address(peer[0])
        if self._listener.proxies.holds(address):
            self._wait(_Mode.PROXY, times.SHORT)
        else:
            self._admit(address)

    async def secure(self, accepted: socket) -> None:
        """Take a connection of a listener with TLS from the first byte, up to the greeting.

        Another way in than `connection_made`: uvloop reads before anyone can tell it which context to use.
        """
        self._transport = cast("asyncio.Transport", sockets.Bare(accepted))
        self._hub.entered(self)
        self._wait(_Mode.PROXY, times.SHORT)
        try:
            address = access.client_address(accepted.getpeername()[0])
            if self._listener.proxies.holds(address):
                client = await proxy.receive(accepted)
                if client is None:
                    self._close()
                    return
                address = client
        except proxy.BadHeader as error:
            self._refuse_balancer(error)
            return
        except OSError:
            self._abort()
            return
        names: list[str] | None = None
        try:
            match = self._listener.access.match(address, None)
        except NamesNeeded:
            names = await self._hub.hosts().names_of(address)
            match = self._listener.access.match(address, names)
        if not self._lost:
            self._begin(address, match, names)

    def data_received(self, data: bytes) -> None:
        """Hand it to whoever waits for it."""
        session = self._session
        if self._mode is _Mode.OPEN and session is not None:
            if session.phase is Phase.DATA:
                self._held += len(data)
                self._hub.limits.buffered += len(data)
            session.feed(data)
            self._after()
        elif self._mode is _Mode.PROXY:
            self._early += data
            self._read_proxy_header()
        elif self._mode is _Mode.BEFORE_HANDSHAKE:
            self._info("TLS failed: input in clear text after STARTTLS")
            self._abort()
        elif self._mode is not _Mode.CLOSING:
            self._early += data
            if self._mode is _Mode.NAMES:
                self._transport.pause_reading()  # only now: uvloop begins to read after `connection_made`

    def eof_received(self) -> bool:
        """The client will send nothing more. True: it still gets an answer to what it sent."""
        self._eof = True
        return (
            self._busy
            and self._mode is _Mode.OPEN
            and self._session is not None
            and self._session.tls is None
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        del exc
        self._finish()

    def pause_writing(self) -> None:
        """A client that does not read its replies gets no more of them."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        if not self._busy:
            self._transport.resume_reading()

    # Called by the reception

    def time_out(self) -> None:
        """The deadline has passed."""
        if self._mode is _Mode.OPEN and self._session is not None:
            self._info("idle for too long")
            self._session.cut(replies.IDLE)
            self._after()
        else:
            self._abort()

    def stop(self) -> None:
        """The member ends: close unless a message is under way."""
        if self._mode is _Mode.OPEN and self._session is not None:
            self._session.stop()
            if not self._busy:
                self._after()
        elif self._mode is not _Mode.CLOSING:
            self._abort()

    def cut(self) -> None:
        """The member ends now."""
        if self._mode is _Mode.OPEN and self._session is not None and not self._busy:
            self._session.cut(replies.SHUTTING_DOWN)
            self._after()
        else:
            self._abort()

    # Before the session

    def _read_proxy_header(self) -> None:
        try:
            header = proxy.read(self._early)
        except proxy.BadHeader as error:
            self._refuse_balancer(error)
            return
        if header is None:
            return
        self._early = header.rest
        if header.client is None:  # the balancer only looks whether somebody is there
            self._close()
            return
        self._admit(header.client)

    def _refuse_balancer(self, error: proxy.BadHeader) -> None:
        self._hub.mail_log.warning(f"Connection to {self._listener.name} closed: {error}")
        self._abort()

    def _admit(self, address: Address) -> None:
        try:
            match = self._listener.access.match(address, None)
        except NamesNeeded:
            self._wait(_Mode.NAMES, times.SHORT)
            self._spawn(self._admit_by_name(address))
        else:
            self._begin(address, match, None)

    async def _admit_by_name(self, address: Address) -> None:
        names = await self._hub.hosts().names_of(address)
        if self._lost:
            return
        self._begin(address, self._listener.access.match(address, names), names)
        if not self._busy:
            self._transport.resume_reading()

    def _begin(self, address: Address, match: Match | None, names: list[str] | None) -> None:
        listener = self._listener
        local = self._transport.get_extra_info("sockname")
        guest = admission.decide(self._hub, listener, address, match, names, local[0] if local else "unknown")
        self._icid, self._address, self._host = guest.icid, str(address), guest.host
        if guest.terms is None:
            self._abort()
            return
        if guest.refusal is not None:
            if not listener.implicit_tls:
                self._transport.write(guest.refusal.wire)
            self._close()
            return
        self._terms = guest.terms
        self._session = Session(guest.terms, Quota(self._hub.limits, self._address))
        if listener.implicit_tls:
            self._start_tls(guest.terms, greet=True)
        else:
            self._open(greet=True)

    def _open(self, *, greet: bool) -> None:
        """From here on the session has the word."""
        session = self._session
        if session is None:
            return
        self._mode = _Mode.OPEN
        if greet:
            session.greet()
        if self._early:
            early, self._early = self._early, b""
            session.feed(early)
        self._after()

    # The session's wishes

    def _after(self) -> None:
        """Send, log, and do what the session wants."""
        session = self._session
        if session is None or self._lost:
            return
        for note in session.notes:
            self._info(note)
        session.notes.clear()
        # Octets that make no whole command are no sign of life.
        if session.out or session.phase is Phase.DATA:
            allowed = times.BLOCK if session.phase is Phase.DATA else times.IDLE
            refused = self._terms is not None and self._terms.policy.behavior == "Reject"
            self.deadline = self._loop.time() + (times.SHORT if refused else allowed)
        if session.out:
            self._transport.write(b"".join(session.out))
            session.out.clear()
        if session.action is not None and not self._busy:
            self._act(session.action)

    def _act(self, action: Action) -> None:
        match action:
            case Store():
                self._busy = True
                self.deadline = times.NEVER
                self._transport.pause_reading()
                self._spawn(self._store(action))
            case StartTLS():
                if self._terms is not None:
                    self._start_tls(self._terms, greet=False)
            case Close():
                self._close()

    def _start_tls(self, terms: Terms, *, greet: bool) -> None:
        if terms.context is None:
            self._info("TLS failed: no certificate")
            self._abort()
            return
        self._busy = self._initiated = True
        # Not one octet may slip from before TLS into the session behind it (RFC 3207 section 4.2).
        self._transport.pause_reading()
        self._early = b""
        self._wait(_Mode.BEFORE_HANDSHAKE, times.HANDSHAKE + times.SHORT)
        self._spawn(self._shake_hands(terms, terms.context, greet=greet))

    async def _shake_hands(self, terms: Terms, context: ssl.SSLContext, *, greet: bool) -> None:
        if self._lost:
            return
        # From here on `data_received` is only called with what has been decrypted.
        self._mode = _Mode.HANDSHAKE
        try:
            secure = await handshakes.shake(self._transport, self, context)
        except (
            OSError,
            RuntimeError,
        ) as error:  # ssl.SSLError is an OSError; RuntimeError: it was closed just now
            self._info(f"TLS failed: {handshakes.explain(error)}")
            self._abort()
            return
        if secure is None or self._session is None:
            self._info("TLS failed: the connection was closed")
            self._abort()
            return
        self._transport = secure
        connection = secure.get_extra_info("ssl_object")
        details, refusal, notes = clients.judge(
            connection, terms.policy, self._listener.running, self._hub.clock()
        )
        for note in notes:
            self._info(note)
        self._session.tls_started(details, refusal)
        self._busy = False
        if not self._lost:
            self._open(greet=greet)

    async def _store(self, action: Store) -> None:
        session, terms = self._session, self._terms
        if session is None or terms is None:
            return
        peer = storing.Peer(self._icid, self._address, self._host, session.tls)
        reply = await storing.store(action, peer, terms.hostname, self._hub)
        self._let_go()
        self._busy = False
        if self._lost:
            return
        session.stored(reply)
        self._transport.resume_reading()
        self._after()
        if self._eof:
            self._close()

    # Ends

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._hub.spawn(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BaseException:  # ours to see to, or the connection would hang
            self._abort()
            raise

    def _wait(self, mode: _Mode, seconds: float) -> None:
        self._mode = mode
        self.deadline = self._loop.time() + seconds

    def _close(self) -> None:
        """Close once everything has been sent."""
        self._wait(_Mode.CLOSING, times.SHORT)
        self._transport.close()

    def _abort(self) -> None:
        """Close without another word."""
        self._mode = _Mode.CLOSING
        self._transport.abort()
        # A transport whose handshake failed does not tell us its end.
        self._finish()

    def _let_go(self) -> None:
        self._hub.limits.buffered -= self._held
        self._held = 0

    def _finish(self) -> None:
        if self._lost:
            return
        self._lost = True
        self._mode = _Mode.CLOSING
        if not self._busy:
            self._let_go()
        self._hub.left(self)
        if self._terms is not None:
            self._hub.limits.leave(self._listener.name, self._address)
            session = self._session
            if (
                session is not None
                and self._terms.tls_required
                and not self._initiated
                and not session.accepted
            ):
                self._info("TLS was required but remote host did not initiate it")
        if self._icid:
            self._info("close")

    def _info(self, text: str) -> None:
        self._hub.mail_log.info(f"ICID {self._icid} {text}", icid=self._icid)
