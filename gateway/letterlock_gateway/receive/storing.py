"""From a message that has come in to one that is safe: trace header, spool, log. Called by `connection`."""

from dataclasses import dataclass

from letterlock_gateway.receive import replies, trace
from letterlock_gateway.receive.actions import Store
from letterlock_gateway.receive.hub import Hub
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.trace import TLSDetails
from letterlock_gateway.report.log import Log
from letterlock_gateway.spool import NewMessage, SpoolFailed


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a message comes from."""

    icid: int
    address: str
    host: str
    """Its verified name; empty: none."""
    tls: TLSDetails | None


async def store(action: Store, peer: Peer, hostname: str, hub: Hub) -> Reply:
    """Store the message. The reply is 250 only if it lies on disk."""
    mid = hub.spool.new_mid()
    header = trace.received(
        hello=action.hello,
        host=peer.host,
        address=peer.address,
        hostname=hostname,
        protocol=action.protocol,
        mid=mid,
        tls=peer.tls,
        recipient=action.recipients[0].address if len(action.recipients) == 1 else None,
        now=hub.clock(),
    )
    body = header + action.body
    message = NewMessage(
        sender=action.sender,
        recipients=action.recipients,
        body=body,
        icid=peer.icid,
        smtputf8=action.mail.smtputf8,
        body_8bit=action.mail.body_8bit or not body.isascii(),
        ret=action.mail.ret,
        envid=action.mail.envid,
        received_protocol=peer.tls.protocol if peer.tls else None,
        received_cipher=peer.tls.cipher if peer.tls else None,
    )
    try:
        stored = await hub.spool.take(message, mid)
    except SpoolFailed as failure:
        text = f"MID {mid} ICID {peer.icid} could not be stored: {failure}"
        hub.mail_log.error(text, icid=peer.icid, mid=mid)
        return replies.STORE_FAILED
    _tell(hub.mail_log, message, mid, stored.rids)
    return replies.queued(mid)


def _tell(mail_log: Log, message: NewMessage, mid: int, rids: range) -> None:
    icid = message.icid
    mail_log.info(f"Start MID {mid} ICID {icid}", mid=mid, icid=icid)
    mail_log.info(f"MID {mid} ICID {icid} From: <{message.sender}>", mid=mid, icid=icid)
    for rid, to in zip(rids, message.recipients, strict=True):
        mail_log.info(f"MID {mid} ICID {icid} RID {rid} To: <{to.address}>", mid=mid, icid=icid, rid=rid)
    mail_log.info(f"MID {mid} queued for delivery", mid=mid, icid=icid)
