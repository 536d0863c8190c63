"""One connection: the thin shell around a session. Reads and writes, shakes hands, stores, keeps time, logs.

Made by `reception` for every accepted connection; it keeps the terms it began with until it ends.
"""

import asyncio
import ssl
from typing import Final, cast

from letterlock_api.conditions import Reason
from letterlock_gateway.receive import asking, clients, handshakes, replies, sockets, times
from letterlock_gateway.receive.actions import Action, Ask, Close, StartTLS, Store
from letterlock_gateway.receive.allowances import Allowance
from letterlock_gateway.receive.arrival import Arrival, Mode
from letterlock_gateway.receive.encryption import Encryption
from letterlock_gateway.receive.hub import Hub
from letterlock_gateway.receive.limits import Quota
from letterlock_gateway.receive.orders import Phase
from letterlock_gateway.receive.session import Session
from letterlock_gateway.receive.storing import Inbox, Peer
from letterlock_gateway.receive.terms import ListenerTerms, Terms
from letterlock_gateway.report.metrics import TLS

# A handshake, and what is left of a connection that closes, are read whatever the session is at.
_BY_ITSELF: Final = frozenset({Mode.HANDSHAKE, Mode.CLOSING})
# Octets: what is more than one record of TLS is acknowledged as it comes.
_SMALL: Final = 1 << 14


class Connection(Arrival):
    """The protocol object of one connection."""

    def __init__(self, hub: Hub, listener: ListenerTerms) -> None:
        super().__init__(hub, listener)
        self._session: Session | None = None
        self._busy = False
        """A message is being stored, a recipient looked up, or a handshake is under way."""
        self._eof = False
        self._initiated = False
        """The client asked for TLS."""
        self._greets = False
        """It has not been greeted yet: TLS comes first."""
        self._choked = False
        """The client does not read what we write."""
        self._resting = False
        """It is the turn of others: this client has just asked for much."""
        self._allowance = Allowance()
        self._inbox = Inbox(hub)
        self._patience = times.Patience()

    # Called by the event loop

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next octets go."""
        del sizehint
        return self._hub.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many have come. They are taken out at once: the next to read may be another connection."""
        self.received(bytes(self._hub.buffer[:nbytes]))

    def received(self, data: bytes) -> None:
        """Hand it to whoever waits for it; under TLS it comes from there."""
        session = self._session
        if self._mode is Mode.OPEN and session is not None:
            self._patience.octets += len(data)
            session.feed(data)
            silent = not session.out
            self._work(session)
            if silent and len(data) <= _SMALL and session.phase is Phase.DATA:
                sockets.acknowledge(self._transport)  # of a text in small pieces, each waits for that
        elif self._mode is Mode.PROXY:
            self._early += data
            self._read_proxy_header()
        elif self._mode is not Mode.CLOSING:
            self._early += data
            if self._mode is Mode.NAMES:
                self._transport.pause_reading()  # only now: uvloop begins to read after `connection_made`

    def _work(self, session: Session) -> None:
        """See to what came of what came in; where that was much, others have their turn before it goes on.

        Else whoever sends without end has the worker for itself.
        """
        self._after()
        work, session.work = session.work, 0
        if self._resting or not (self._allowance.spend(self._loop.time(), work) or session.more):
            return
        self._resting = True
        self._read_or_not()
        if session.unwanted:
            self._hub.turns.wait_unwanted(self._rested, work)
        else:
            self._hub.turns.wait(self._rested)

    def _rested(self) -> None:
        self._resting = False
        session = self._session
        if self._mode is not Mode.OPEN or session is None or self._lost:  # a handshake reads by itself
            return
        if session.more:
            session.go_on()
            self._work(session)
        self._read_or_not()
        if self._eof and not self._busy and not self._resting:
            self._close()

    def eof_received(self) -> bool:
        """The client will send nothing more. True: it still gets an answer to what it sent."""
        self._eof = True
        return (
            (self._busy or self._resting)
            and self._mode is Mode.OPEN
            and self._session is not None
            and self._session.tls is None
        )

    def pause_writing(self) -> None:
        """A client that does not read its replies gets no more of them."""
        self._choked = True
        self._read_or_not()

    def resume_writing(self) -> None:
        """It reads again."""
        self._choked = False
        self._read_or_not()

    # Called by the reception

    def time_out(self) -> None:
        """The deadline has passed."""
        if self._inbox.full:  # it is the disk that keeps us waiting, not the client
            return
        if self._mode is Mode.OPEN and self._session is not None:
            self._info("idle for too long")
            self._session.cut(replies.IDLE)
            self._after()
        elif self._mode is Mode.HANDSHAKE:
            self.not_secured(TimeoutError(f"the handshake took longer than {times.HANDSHAKE:g} s"))
        else:
            self._abort()

    def stop(self) -> None:
        """The member ends: close unless a message is under way."""
        if self._mode is Mode.OPEN and self._session is not None:
            self._session.stop()
            if not self._busy:
                self._after()
        elif self._mode is not Mode.CLOSING:
            self._abort()

    def cut(self) -> None:
        """The member ends now."""
        if self._mode is Mode.OPEN and self._session is not None and not self._busy:
            self._session.cut(replies.SHUTTING_DOWN)
            self._after()
        else:
            self._abort()

    # The session

    def _admitted(self, terms: Terms) -> None:
        self._session = Session(terms, Quota(self._hub.limits, self._counted_as))
        self._inbox.hostname = terms.hostname
        self._inbox.peer = Peer(self._icid, self._address, self._host, None)
        if self._listener.implicit_tls:
            self._start_tls(terms, greet=True)
        else:
            self._open(greet=True)

    def _open(self, *, greet: bool) -> None:
        """From here on the session has the word."""
        session = self._session
        if session is None:
            return
        self._mode = Mode.OPEN
        if greet:
            session.greet()
        early, self._early = self._early, b""
        session.feed(early)
        self._work(session)

    # The session's wishes

    def _after(self) -> None:
        """Send, log, and do what the session wants."""
        session = self._session
        if session is None or self._lost:
            return
        if session.notes:
            for note in session.notes:
                self._info(note)
            session.notes.clear()
        if session.text or self._inbox.intake is not None:
            self._inbox.keep(session, self._read_or_not)
            if self._inbox.full:
                self._read_or_not()
        # Octets that make no whole command are no sign of life.
        if session.out or session.phase is Phase.DATA:
            refused = self._terms is not None and self._terms.policy.behavior == "Reject"
            now, text = self._loop.time(), session.phase is Phase.DATA
            self.deadline = self._patience.until(now, text=text, said=bool(session.out), refused=refused)
        action = None if self._busy else session.action
        if session.out:
            said = b"".join(session.out)
            session.out.clear()
            if isinstance(action, Close) and isinstance(self._transport, Encryption):
                self._transport.write_last(said)
            else:
                self._transport.write(said)
        if action is not None:
            self._act(action)

    def _read_or_not(self) -> None:
        """Read on, unless somebody has to catch up first: we, the client, or the disk."""
        if self._lost or self._mode in _BY_ITSELF:
            return
        if self._busy or self._choked or self._resting or self._inbox.full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _act(self, action: Action) -> None:
        match action:
            case Store():
                self._busy = True
                self.deadline = times.NEVER
                self._read_or_not()
                self._spawn(self._store(action))
            case Ask():
                self._busy = True
                self.deadline = times.NEVER
                self._read_or_not()
                self._spawn(self._ask(action))
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
        self._early = b""
        self._greets = greet
        self._wait(Mode.HANDSHAKE, times.HANDSHAKE)
        encryption = Encryption(self, terms.context, self._hub.buffer)
        transport, self._transport = self._transport, cast("asyncio.Transport", encryption)
        if isinstance(transport, sockets.Bare):
            self._spawn(self._take_over(transport, encryption))
        else:
            encryption.begin(transport)

    async def _take_over(self, bare: sockets.Bare, encryption: Encryption) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: encryption, bare.hand_over())
        except OSError as problem:
            if not self._lost:
                self.not_secured(problem)

    def not_secured(self, problem: Exception) -> None:
        """The handshake has failed, or the connection was closed meanwhile."""
        if self._lost:
            return
        self._info(f"TLS failed: {handshakes.explain(problem)}")
        self._count_tls("failed", handshakes.reason(problem))
        self._abort()

    def secured(self, session: ssl.SSLObject) -> None:
        """The handshake is done. Whose certificate is not good enough is told so inside TLS."""
        terms = self._terms
        if self._lost or self._session is None or terms is None:
            self._abort()
            return
        self._choked = False  # what was to be read before TLS has been
        details, refusal, notes = clients.judge(
            session, terms.policy, self._listener.running, self._hub.clock()
        )
        for note in notes:
            self._info(note)
        if refusal is not None:
            self._count_tls("failed", Reason.NOT_TRUSTED, details.protocol)
        else:
            self._count_tls("verified" if details.client else "encrypted", "", details.protocol)
        self._session.tls_started(details, refusal)
        self._inbox.peer = Peer(self._icid, self._address, self._host, details)
        self._busy = False
        self._open(greet=self._greets)

    def _count_tls(self, result: str, reason: str, protocol: str = "") -> None:
        self._hub.mail_log.counts.add(TLS, "in", self._listener.name, result, protocol, reason, "")

    async def _store(self, action: Store) -> None:
        reply = await self._inbox.store(action)
        self._busy = False
        session = self._session
        if self._lost or session is None:
            return
        session.stored(reply)
        self._go_on(session)

    async def _ask(self, action: Ask) -> None:
        refusal = await asking.ask(self._hub, self._listener, action)
        self._busy = False
        session = self._session
        if self._lost or session is None:
            return
        session.known(refusal)
        self._go_on(session)

    def _go_on(self, session: Session) -> None:
        self._work(session)
        self._read_or_not()
        if self._eof and not self._busy and not self._resting:
            self._close()

    def _ended(self) -> None:
        self._inbox.drop()
        session = self._session
        if (
            session is not None
            and self._terms is not None
            and self._terms.tls_required
            and not self._initiated
            and not session.accepted
        ):
            self._info("TLS was required but remote host did not initiate it")
