"""TLS of a server on a TCP transport, with as much of a transport's face as a connection needs.

Our own and not uvloop's (docs/decisions/0042-tls-of-our-own.md). Made by `connection` for STARTTLS and for listeners
with TLS from the first byte. What comes is decrypted into the one buffer of the worker and handed over at once; what
is written is encrypted at once, so all that waits is in the TCP transport, whose flow control holds for both.
"""

import asyncio
import ssl
from enum import Enum, auto
from typing import Final, Protocol, cast

from letterlock_gateway.receive import sockets

# Octets that one record may bring (RFC 8446 section 5.1).
_RECORD: Final = 1 << 14


class Owner(Protocol):
    """Whose octets they are."""

    def secured(self, session: ssl.SSLObject) -> None:
        """The handshake is done."""
        ...

    def not_secured(self, problem: Exception) -> None:
        """The handshake has failed (ssl.SSLError), or the connection was closed meanwhile (OSError)."""
        ...

    def received(self, data: bytes) -> None:
        """Octets from inside TLS."""
        ...

    def eof_received(self) -> bool | None:
        """The peer will send no more (close_notify). What it returns does not count."""
        ...

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        ...

    def resume_writing(self) -> None:
        """It reads again."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        ...


class _Phase(Enum):
    HANDSHAKE = auto()
    OPEN = auto()
    ENDING = auto()
    """Our close_notify is sent: what comes now is read so that what we said last is not lost by a reset."""
    ENDED = auto()


class Encryption(asyncio.BufferedProtocol):
    """TLS for one connection. `begin`, or let it be the protocol of a new transport."""

    def __init__(self, owner: Owner, context: ssl.SSLContext, buffer: memoryview) -> None:
        """`buffer`: of the worker; nothing stays in it between two calls."""
        self._owner = owner
        self._buffer = buffer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._phase = _Phase.HANDSHAKE
        self._transport = cast("asyncio.Transport", sockets.GONE)
        self._alerted = False
        """An alert says why: it is to arrive."""

    def begin(self, transport: asyncio.Transport) -> None:
        """Take over a transport in use. Not one octet that was read before gets here (RFC 3207 section 4.2)."""
        self._transport = transport
        transport.set_protocol(self)
        transport.resume_reading()

    # What the owner calls, as if this was its transport

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self._encrypt(data):
            self._flush()

    def write_last(self, data: bytes) -> None:
        """Encrypt what `close`, which comes next, sends with its own last word: one packet, and not two."""
        self._encrypt(data)

    def pause_reading(self) -> None:
        """Read nothing more for now."""
        if self._phase is _Phase.OPEN:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._phase is _Phase.OPEN:
            self._transport.resume_reading()

    def get_extra_info(self, name: str) -> object:
        """What the TCP transport knows."""
        return self._transport.get_extra_info(name)

    def close(self) -> None:
        """Say that it is the end, and close when the peer has said so too. The owner bounds how long that may take."""
        if self._phase is not _Phase.OPEN:
            self.abort()
            return
        self._phase = _Phase.ENDING
        done = self._say_end()
        self._flush()
        if done:
            self._transport.close()
        else:
            self._transport.resume_reading()
            self._wait_for_end()

    def abort(self) -> None:
        """Close now."""
        self._phase = _Phase.ENDED
        if self._alerted:
            self._transport.close()
        else:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection, with TLS from the first byte."""
        self._transport = cast("asyncio.Transport", transport)
        if self._phase is _Phase.ENDED:  # aborted before it had begun
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next records go."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many octets of records have come."""
        self._incoming.write(self._buffer[:nbytes])
        match self._phase:
            case _Phase.OPEN:
                self._read()
            case _Phase.HANDSHAKE:
                self._shake_hands()
            case _Phase.ENDING:
                self._wait_for_end()
            case _Phase.ENDED:
                pass

    def eof_received(self) -> bool:
        """The peer has closed its side without a word. So do we, whatever it still waits for."""
        if self._phase is _Phase.HANDSHAKE:
            self._fail(ConnectionResetError())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._phase is _Phase.HANDSHAKE:
            self._fail(exc or ConnectionResetError())
        self._phase = _Phase.ENDED
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._owner.resume_writing()

    # Inside

    def _encrypt(self, data: bytes) -> bool:
        """Whether it could be done."""
        if self._phase is not _Phase.OPEN:
            return False
        try:
            self._session.write(data)
        except ssl.SSLError:
            self.abort()
            return False
        return True

    def _shake_hands(self) -> None:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as problem:
            self._alerted = self._flush()
            self._fail(problem)
            return
        self._phase = _Phase.OPEN
        # In TLS 1.3 only tickets are left to be sent: they go with the first reply.
        if self._session.version() != "TLSv1.3":
            self._flush()
        elif not self._incoming.pending:
            sockets.acknowledge(self._transport)
        self._owner.secured(self._session)
        if self._incoming.pending:
            self._read()

    def _fail(self, problem: Exception) -> None:
        self._phase = _Phase.ENDED
        self._owner.not_secured(problem)

    def _read(self) -> None:
        session, incoming, buffer = self._session, self._incoming, self._buffer
        got, ended = 0, False
        try:
            # OpenSSL takes one record at a time, and all of it is read: it never has any left that is not seen here.
            while incoming.pending and self._phase is _Phase.OPEN:
                if len(buffer) - got < _RECORD:
                    self._owner.received(bytes(buffer[:got]))
                    got = 0
                octets: int = session.read(_RECORD, buffer[got:])  # pyright: ignore[reportAssignmentType] - with a buffer
                ended = octets == 0
                if ended:
                    break
                got += octets
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._alerted = self._flush()
            self.abort()
            return
        if got:
            self._owner.received(bytes(buffer[:got]))
        if self._phase is not _Phase.OPEN:
            return
        if self._outgoing.pending:
            self._flush()  # an answer of TLS itself: to a renegotiation, to a change of keys
        if ended:
            self._owner.eof_received()
            self.close()

    def _say_end(self) -> bool:
        """Send close_notify. Whether the peer has sent its own."""
        try:
            self._session.unwrap()
        except ssl.SSLError:  # it has not, or has sent something else before it
            return False
        return True

    def _wait_for_end(self) -> None:
        """Throw away what comes before the peer's close_notify, and close when that is there."""
        try:
            while self._incoming.pending:
                if not self._session.read(_RECORD, self._buffer):
                    break
            else:
                return
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:  # its close_notify, after ours; or nonsense
            pass
        self._transport.close()

    def _flush(self) -> bool:
        """Send what TLS has to say. Whether there was anything."""
        data = self._outgoing.read()
        if data:
            self._transport.write(data)
        return bool(data)
