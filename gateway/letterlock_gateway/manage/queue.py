"""What administrators order about mail that waits, carried out by one worker: try it now, or delete it.

Called by `worker` for orders that came over `control`. Each order is logged, with the messages it touched.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

from letterlock_gateway.channel import Message
from letterlock_gateway.deliver import Delivery
from letterlock_gateway.report.log import Log
from letterlock_gateway.spool import Spool, SpoolFailed, Waiting, domain_of

Do = Literal["retry", "delete"]
_DELETED: Final = "deleted by an administrator"
# Recipients that are named one by one in log and answer; of more only the number is given.
_NAMED: Final = 1000


def order(
    do: Do, *, mids: Sequence[int] = (), recipient: str = "", everything: bool = False
) -> dict[str, Any]:
    """An order for the messages `mids`, for `recipient` (an address or `@domain`), both, or for `everything`.

    Raises ValueError for one that says nothing: nobody means the whole queue by that.
    """
    if not mids and not recipient and not everything:
        raise ValueError("name messages, a recipient, or everything")
    return {"do": do, "mids": list(mids), "recipient": recipient}


async def carry_out(order: Message, spool: Spool, delivery: Delivery, mail_log: Log) -> dict[str, Any]:
    """What became of an order on this worker: recipients `done`, and those that were under way (`busy`)."""
    try:
        chosen = [one for one in await spool.waiting(order["mids"]) if _meant(one, order["recipient"])]
        if order["do"] == "delete":
            done = set(await delivery.delete(chosen, _DELETED))
            _tell(mail_log, [one for one in chosen if one.rid in done], _DELETED)
        else:
            done = {one.rid for one in chosen}
            await spool.hasten_these(list(done))
            _tell(mail_log, chosen, "is tried at once, as an administrator asked")
    except SpoolFailed as failure:
        mail_log.error(f"An order about the queue could not be carried out: {failure}")
        return {"done": [], "busy": [], "problems": [str(failure)]}
    return {
        "done": [_shown(one) for one in chosen if one.rid in done],
        "busy": [_shown(one) for one in chosen if one.rid not in done],
        "problems": [],
    }


def _meant(one: Waiting, recipient: str) -> bool:
    if not recipient:
        return True
    if recipient.startswith("@"):
        return one.domain == domain_of(recipient)
    return one.address.lower() == recipient.lower()


def _shown(one: Waiting) -> dict[str, Any]:
    return {"mid": one.mid, "rid": one.rid, "address": one.address}


def _tell(mail_log: Log, chosen: Sequence[Waiting], what: str) -> None:
    for one in chosen[:_NAMED]:
        mail_log.info(f"MID {one.mid} RID {one.rid} To: <{one.address}> {what}", mid=one.mid, rid=one.rid)
    if len(chosen) > _NAMED:
        mail_log.info(f"{len(chosen) - _NAMED} more recipients: {what}")
