"""A connection until it is known who has come and what holds for it: PROXY header, names, admission. And its end.

`connection` builds on it: the reception makes Connections only.
"""

import asyncio
import ipaddress
from abc import abstractmethod
from collections.abc import Coroutine
from enum import Enum, auto
from socket import socket
from typing import Any, Final, cast

from letterlock_gateway.receive import access, admission, proxy, sockets, times
from letterlock_gateway.receive.access import Address, Match, NamesNeeded
from letterlock_gateway.receive.hub import Hub
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.terms import CHECK, ListenerTerms, Terms

_NOBODY: Final = ipaddress.IPv4Address(0)
# The balancer's own connection: it looks whether somebody is there. Who its client is, if there is one, is unknown,
# and its own address stands for nobody: a Private listener may list it.
_OWN: Final = Match(CHECK, CHECK, "the balancer itself")


class Mode(Enum):
    """Who the next octets are for."""

    PROXY = auto()
    """Waits for a PROXY header."""
    NAMES = auto()
    """Waits for the client's names."""
    HANDSHAKE = auto()
    """STARTTLS has been answered: whatever comes in clear now breaks the handshake."""
    OPEN = auto()
    CLOSING = auto()


class Arrival(asyncio.BufferedProtocol):
    """The part of a connection that comes before its session, and after."""

    def __init__(self, hub: Hub, listener: ListenerTerms) -> None:
        self._hub = hub
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._mode = Mode.NAMES
        self._terms: Terms | None = None
        self._icid = 0
        self._address = ""
        self._counted_as = ""
        self._peer: Address = _NOBODY
        """Who is at the other end of the wire: the client, or the load balancer in front of it."""
        self._host = ""
        self._early = b""
        """What the client sent before anybody wanted it."""
        self._header: asyncio.Future[Address | None] | None = None
        self._lost = False
        self.deadline = times.NEVER
        """When the reception calls `time_out`, in the event loop's time."""

    @abstractmethod
    def time_out(self) -> None:
        """The deadline has passed."""

    @abstractmethod
    def stop(self) -> None:
        """The member ends: close unless a message is under way."""

    @abstractmethod
    def cut(self) -> None:
        """The member ends now."""

    @abstractmethod
    def _admitted(self, terms: Terms) -> None:
        """It may come in."""

    @abstractmethod
    def _ended(self) -> None:
        """It has ended: let go of everything, and log what there is to say before the close."""

    @abstractmethod
    def _read_or_not(self) -> None:
        """Read on, unless somebody has to catch up first."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is."""
        self._transport = cast("asyncio.Transport", transport)
        self._hub.entered(self)
        peer = transport.get_extra_info("peername")
        if not peer:  # it has gone already
            self._abort()
            return
        self._peer = address = access.client_address(peer[0])
        if self._listener.proxies.holds(address):
            self._wait(Mode.PROXY, times.SHORT)
        else:
            self._admit(address)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        del exc
        self._finish()
        # What encrypts for us knows us: that circle would hold both until somebody looks for it.
        self._transport = cast("asyncio.Transport", sockets.GONE)

    async def secure(self, accepted: socket) -> None:
        """Take a connection of a listener with TLS from the first byte, up to the greeting.

        Another way in than `connection_made`: uvloop reads before anyone can tell it which context to use.
        """
        self._transport = cast("asyncio.Transport", sockets.Bare(accepted))
        self._hub.entered(self)
        self._wait(Mode.PROXY, times.SHORT)
        try:
            address = access.client_address(accepted.getpeername()[0])
            if self._listener.proxies.holds(address):
                self._header = asyncio.ensure_future(proxy.receive(accepted))
                client = await self._header
                if client is None:
                    self._begin(address, _OWN, None)
                    return
                address = client
        except proxy.BadHeader as error:
            self._refuse_balancer(error)
            return
        except OSError:
            self._abort()
            return
        except asyncio.CancelledError:
            if self._lost:  # the balancer took too long
                return
            raise
        finally:
            self._header = None
        if not self._lost:
            self._admit(address)

    # Who it is

    def _read_proxy_header(self) -> None:
        try:
            header = proxy.read(self._early)
        except proxy.BadHeader as error:
            self._refuse_balancer(error)
            return
        if header is None:
            return
        self._early = header.rest
        if header.client is None:
            self._begin(self._peer, _OWN, None)
            return
        self._admit(header.client)

    def _refuse_balancer(self, error: proxy.BadHeader) -> None:
        self._hub.mail_log.warning(f"Connection to {self._listener.name} closed: {error}")
        self._abort()

    def _admit(self, address: Address) -> None:
        try:
            match = self._listener.access.match(address, None)
        except NamesNeeded:
            refusal = self._hub.limits.wait(self._listener.name, self._listener.max_concurrency)
            if refusal is None:
                self._wait(Mode.NAMES, times.SHORT)
                self._spawn(self._admit_by_name(address))
                return
            self._hub.mail_log.info(
                f"Connection to {self._listener.name} from {address} refused: {refusal.text}"
            )
            self._refuse(refusal)
        else:
            self._begin(address, match, None)

    async def _admit_by_name(self, address: Address) -> None:
        try:
            names = await self._hub.hosts().names_of(address)
        finally:
            self._hub.limits.waited(self._listener.name)
        if self._lost:
            return
        self._begin(address, self._listener.access.match(address, names), names)
        self._read_or_not()

    def _begin(self, address: Address, match: Match | None, names: list[str] | None) -> None:
        listener = self._listener
        local = self._transport.get_extra_info("sockname")
        guest = admission.decide(self._hub, listener, address, match, names, local[0] if local else "unknown")
        self._icid, self._address, self._host = guest.icid, str(address), guest.host
        self._counted_as = guest.counted_as
        if guest.terms is None:
            self._abort()
            return
        if guest.refusal is None:
            self._terms = guest.terms
            self._admitted(guest.terms)
            return
        self._refuse(guest.refusal)

    def _refuse(self, refusal: Reply) -> None:
        """One word to it, and no more; none where it expects TLS."""
        if not self._listener.implicit_tls:
            self._transport.write(refusal.wire)
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

    def _wait(self, mode: Mode, seconds: float) -> None:
        self._mode = mode
        self.deadline = self._loop.time() + seconds

    def _close(self) -> None:
        """Close once everything has been sent."""
        self._wait(Mode.CLOSING, times.SHORT)
        self._transport.close()
        if isinstance(self._transport, sockets.Bare):  # which does not tell us its end
            self._finish()

    def _abort(self) -> None:
        """Close without another word."""
        self._mode = Mode.CLOSING
        if self._header is not None:
            self._header.cancel()  # first: nobody may wait for a descriptor that may soon be another's
        self._transport.abort()
        self._finish()

    def _finish(self) -> None:
        if self._lost:
            return
        self._lost = True
        self._mode = Mode.CLOSING
        self._hub.left(self)
        if self._terms is not None:
            self._hub.limits.leave(self._listener.name, self._counted_as)
        self._ended()
        if self._icid:
            self._info("close")

    def _info(self, text: str) -> None:
        self._hub.mail_log.info(f"ICID {self._icid} {text}", icid=self._icid)
