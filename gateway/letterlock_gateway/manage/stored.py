"""Messages that the supervisor has a worker store: it has no spool of its own. Called by `alerting` and `worker`.

Over the worker's channel alone: what comes in by the member's own door (`control`) can order no mail.
"""

from base64 import b64decode, b64encode
from typing import Any, Final

from letterlock_gateway.channel import Message
from letterlock_gateway.spool import NewMessage, NewRecipient, Spool, SpoolFailed

DO: Final = "store"


class NotStored(Exception):  # noqa: N818 - says what is
    """No worker could store a message now. The text says why."""


def order(message: NewMessage) -> dict[str, Any]:
    """The order to store a message that was made here."""
    return {
        "do": DO,
        "sender": message.sender,
        "recipients": [[one.address, one.notify] for one in message.recipients],
        "body": b64encode(message.body).decode(),
        "smtputf8": message.smtputf8,
    }


async def carry_out(order: Message, spool: Spool) -> dict[str, Any]:
    """Store it; gives its number (`mid`), or why it could not be (`problem`)."""
    message = NewMessage(
        sender=order["sender"],
        recipients=tuple(NewRecipient(address, notify=notify) for address, notify in order["recipients"]),
        body=b64decode(order["body"]),
        icid=0,
        smtputf8=order["smtputf8"],
    )
    try:
        return {"mid": await spool.store(message)}
    except SpoolFailed as failure:
        return {"problem": str(failure)}


def problem(answer: Message) -> str:
    """Why nothing was stored. A worker whose spool is not open yet answers as to any order."""
    return str(answer.get("problem") or "; ".join(answer.get("problems", ())) or "no answer")
