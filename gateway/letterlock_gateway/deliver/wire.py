"""One SMTP client connection on the wire: bytes out, replies in, TLS when asked for. Decides nothing.

Our own and not aiosmtplib's, because three things must be certain here: whether the 220 reply to STARTTLS had
come when a connection was lost (before it mail may go on in clear, after it never), that nothing sent in clear
text is taken for a reply of the encrypted session (RFC 3207 section 4.2), and that commands can be pipelined
(RFC 2920). Called by `connecting` and `transactions`.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from typing import Final, Self, cast

from letterlock_gateway.deliver.replies import MalformedReply, Reply, ReplyParser

_CHUNK: Final = 64 * 1024
# More than that many replies that nobody asked for: the peer is not speaking SMTP.
_MAX_UNREAD: Final = 1000


class Lost(Exception):  # noqa: N818 - names what happened
    """The connection ended, or the peer did not answer in time. The text says which."""


class Wire(asyncio.Protocol):
    """One connection. Made by `open`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = ReplyParser()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._lost = ""
        self._writable: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.Event()

    @classmethod
    async def open(cls, address: str, port: int, *, seconds: float) -> Self:
        """Connect. Raises Lost."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                _, wire = await loop.create_connection(cls, address, port)
        except TimeoutError:
            raise Lost(f"no connection within {seconds:g} s") from None
        except OSError as error:
            raise Lost(error.strerror or str(error)) from error
        return wire

    @property
    def local_address(self) -> str:
        """Our address of this connection."""
        name = self._transport.get_extra_info("sockname") if self._transport else None
        return str(name[0]) if name else ""

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session; None: clear text."""
        if self._transport is None:
            return None
        return cast("ssl.SSLObject | None", self._transport.get_extra_info("ssl_object"))

    @property
    def quiet(self) -> bool:
        """Whether the connection stands and the peer has said nothing that was not asked for."""
        return not (self._lost or self._replies or self._parser.pending)

    async def reply(self, seconds: float) -> Reply:
        """The next reply; one that came before the connection was lost counts. Raises Lost."""
        if not self._replies:
            if self._lost:
                raise Lost(self._lost)
            self._waiter = self._loop.create_future()
            # A timer alone: asyncio.timeout, entered and left for each reply, costs four times as much.
            patience = self._loop.call_later(seconds, self.abort, f"no reply within {seconds:g} s")
            try:
                await self._waiter
            finally:
                patience.cancel()
                self._waiter = None
        if not self._replies:
            raise Lost(self._lost)
        return self._replies.popleft()

    def unread(self) -> Reply | None:
        """A reply that has come already; None: none has."""
        return self._replies.popleft() if self._replies else None

    async def command(self, line: str, seconds: float) -> Reply:
        """Send one command line and wait for its reply. Raises Lost."""
        if self._replies:
            # A server that gives up an idle connection says so before it closes.
            self.abort(f"unexpected reply: {self._replies.popleft()}")
        self.send(line.encode("utf-8") + b"\r\n")
        return await self.reply(seconds)

    def send(self, data: bytes | memoryview) -> None:
        """Send `data` without waiting. Raises Lost."""
        if self._lost or self._transport is None:
            raise Lost(self._lost or "not connected")
        self._transport.write(data)

    async def send_all(self, data: bytes, seconds: float) -> None:
        """Send `data` as fast as the peer takes it. Raises Lost, also when nothing moves for `seconds`.

        Lost too when the peer answers what it has not got: taken for the reply at the end, that could lose mail.
        """
        whole = memoryview(data)
        for start in range(0, len(data), _CHUNK):
            if not self._lost and not self.quiet:
                self.abort("the peer answers before it has got everything")
            self.send(whole[start : start + _CHUNK])
            if self._writable is None:
                continue
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.shield(self._writable)
            except TimeoutError:
                self.abort(f"the peer took no data for {seconds:g} s")
            if self._lost:
                raise Lost(self._lost)

    async def start_tls(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """Begin TLS. `name` goes as SNI; empty: none is sent.

        What the peer sent before is forgotten, and if it sent anything that it should not have, this is an
        attack or a fault, and the connection is lost. Raises Lost, or ssl.SSLError for a failed handshake.
        """
        if not self.quiet or self._transport is None:
            self.abort("the peer sent data in clear text where the handshake belongs")
            raise Lost(self._lost)
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_side=False,
                server_hostname=name or None,
                ssl_handshake_timeout=seconds,
            )
        except ssl.SSLError as error:
            self.abort(error.reason or str(error))
            self._gone.set()  # nobody tells us any more
            raise
        except (
            OSError,
            ValueError,
        ) as error:  # ValueError: a name that cannot stand in SNI, as an MX record may hold
            self.abort(str(error) or "connection closed by the peer")
            self._gone.set()
            raise Lost(self._lost) from error
        if transport is None or self._lost:
            raise Lost(self._lost or "connection closed by the peer")
        self._transport = transport
        self._parser = ReplyParser()
        self._replies.clear()

    def quit(self) -> None:
        """Say goodbye and close. The reply is not waited for: it changes nothing."""
        if self._transport is not None and not self._lost:
            with contextlib.suppress(Lost):
                self.send(b"QUIT\r\n")
            self._transport.close()
        self._end("closed")

    async def farewell(self, seconds: float) -> None:
        """Say goodbye as politely as SMTP has it: wait for the reply, and for the peer to close.

        Then the peer does not count the connection any more. Where it has been closed already: until it is gone.
        """
        with contextlib.suppress(Lost):
            await self.command("QUIT", seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        self.abort("closed")

    def abort(self, reason: str) -> None:
        """Close at once; `reason` is what is raised from now on."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self._lost:
            return
        try:
            self._replies.extend(self._parser.feed(data))
        except MalformedReply as error:
            self.abort(str(error))
            return
        if len(self._replies) > _MAX_UNREAD:
            self.abort("the peer floods us with replies")
        elif self._replies:
            self._wake()

    def eof_received(self) -> bool:
        """The peer has closed its side; ours is closed too."""
        self._end("connection closed by the peer")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end(str(exc) if exc else "connection closed by the peer")
        self._gone.set()

    def pause_writing(self) -> None:
        """The buffer is full."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The buffer has room again."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _end(self, reason: str) -> None:
        if not self._lost:
            self._lost = reason
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
