"""From a message whose text comes in to one that is safe: trace header, draft, spool, log.

Called by `connection`, which has one `Inbox`.
"""

from collections.abc import Callable

from letterlock_gateway import values
from letterlock_gateway.receive import replies, trace
from letterlock_gateway.receive.actions import Message, Store
from letterlock_gateway.receive.hub import Hub
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.session import Session
from letterlock_gateway.receive.trace import TLSDetails
from letterlock_gateway.report.log import Log
from letterlock_gateway.spool import NewMessage, SpoolFailed, SpoolFull, Traits


@values.value
class Peer:
    """Whom a message comes from."""

    icid: int
    address: str
    host: str
    """Its verified name; empty: none."""
    tls: TLSDetails | None


class Intake:
    """One message on its way into the spool."""

    def __init__(
        self, message: Message, peer: Peer, hostname: str, hub: Hub, room: Callable[[], None] | None
    ) -> None:
        """`hostname`: our own name in the trace header; `room` is called when it is no longer full."""
        self.message = message
        self._peer = peer
        self._hub = hub
        self._draft = hub.spool.draft(hub.limits.held)
        recipients = message.recipients
        self._header = trace.received(
            hello=message.hello,
            host=peer.host,
            address=peer.address,
            hostname=hostname,
            protocol=message.protocol,
            mid=self._draft.mid,
            tls=peer.tls,
            recipient=recipients[0].address if len(recipients) == 1 else None,
            now=hub.clock(),
        )
        self._draft.room = room
        self._draft.write(self._header)

    @property
    def full(self) -> bool:
        """Whether no more should be read until there is room."""
        return self._draft.full

    def write(self, piece: bytes) -> None:
        """Take the next piece of the text."""
        self._draft.write(piece)

    def drop(self) -> None:
        """The message is not wanted."""
        self._draft.room = None
        self._draft.discard()

    async def store(self, action: Store) -> Reply:
        """Store it."""
        self._draft.room = None
        peer, mid, hub = self._peer, self._draft.mid, self._hub
        given = self.message.mail
        is_ascii = action.ascii and self._header.isascii()
        self._draft.traits = Traits(is_ascii, action.plain)  # line ends that are not CRLF never come this far
        message = NewMessage(
            sender=self.message.sender,
            recipients=self.message.recipients,
            body=b"",
            icid=peer.icid,
            smtputf8=given.smtputf8,
            body_8bit=given.body_8bit or not is_ascii,
            ret=given.ret,
            envid=given.envid,
            received_protocol=peer.tls.protocol if peer.tls else None,
            received_cipher=peer.tls.cipher if peer.tls else None,
            client=f"{peer.host} [{peer.address}]".lstrip(),
        )
        try:
            stored = await hub.spool.take(message, draft=self._draft)
        except SpoolFailed as failure:
            self._draft.discard()
            text = f"MID {mid} ICID {peer.icid} could not be stored: {failure}"
            hub.mail_log.error(text, icid=peer.icid, mid=mid)
            return replies.BUFFERS_FULL if isinstance(failure, SpoolFull) else replies.STORE_FAILED
        hub.mail_log.counts.add("letterlock_messages_accepted_total", message.received_protocol or "")
        _tell(hub.mail_log, message, mid, stored.rids)
        return replies.queued(mid)


class Inbox:
    """Where one connection's messages go, one at a time."""

    hostname: str
    """Our own name in the trace header."""
    peer: Peer

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.intake: Intake | None = None
        """The message that comes in; None: none does."""

    @property
    def full(self) -> bool:
        """Whether the disk is behind: no more should be read until there is room."""
        return self.intake is not None and self.intake.full

    def keep(self, session: Session, room: Callable[[], None]) -> None:
        """Take what came of a message; forget one that is no longer wanted. `room` is called when it is no longer full.

        It is not kept beyond the message: a connection that has ended must be gone at once, with the 100 KiB that TLS
        holds for it, and not when the garbage collector looks for circles.
        """
        if self.intake is not None and self.intake.message is not session.message:
            self.drop()
        if session.message is not None and session.text:
            intake = self._of(session.message, room)
            for piece in session.text:
                intake.write(piece)
            session.text.clear()

    async def store(self, action: Store) -> Reply:
        """Store the message. The reply is 250 only if it lies on disk."""
        intake, self.intake = self._of(action.message, None), None
        return await intake.store(action)

    def drop(self) -> None:
        """Forget a message that is coming in."""
        if self.intake is not None:
            self.intake.drop()
            self.intake = None

    def _of(self, message: Message, room: Callable[[], None] | None) -> Intake:
        if self.intake is None:
            self.intake = Intake(message, self.peer, self.hostname, self._hub, room)
        return self.intake


def _tell(mail_log: Log, message: NewMessage, mid: int, rids: range) -> None:
    icid = message.icid
    mail_log.info(f"Start MID {mid} ICID {icid}", mid=mid, icid=icid)
    mail_log.info(f"MID {mid} ICID {icid} From: <{message.sender}>", mid=mid, icid=icid)
    for rid, to in zip(rids, message.recipients, strict=True):
        mail_log.info(f"MID {mid} ICID {icid} RID {rid} To: <{to.address}>", mid=mid, icid=icid, rid=rid)
    mail_log.info(f"MID {mid} queued for delivery", mid=mid, icid=icid)
