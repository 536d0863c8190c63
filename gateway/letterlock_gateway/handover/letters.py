"""A handed-over message as bytes: one line of JSON, then its body as it is. Pure; used by both sides."""

import json
from typing import Any, Final, cast

from letterlock_gateway.spool import Handed, HandedRecipient, NewMessage, NewRecipient

_MESSAGE: Final = (
    "sender",
    "smtputf8",
    "body_8bit",
    "ret",
    "envid",
    "received_protocol",
    "received_cipher",
    "client",
)


class NotALetter(ValueError):  # noqa: N818 - says what it is
    """Bytes that are no handed-over message; the text says why."""


def encode(handed: Handed) -> bytes:
    """The bytes of it."""
    message = handed.message
    head = {
        "source": handed.source,
        "mid": handed.mid,
        "queued_at": handed.queued_at,
        "recipients": [
            [to.address, to.notify, to.orcpt, one.rid, one.attempts, one.next_attempt, one.told_delay]
            for to, one in zip(message.recipients, handed.recipients, strict=True)
        ],
        **{name: getattr(message, name) for name in _MESSAGE},
    }
    return json.dumps(head).encode() + b"\n" + message.body


def decode(content: bytes) -> Handed:
    """The reverse of `encode`. Raises NotALetter."""
    line, _, body = content.partition(b"\n")
    try:
        head = cast("dict[str, Any]", json.loads(line))
        rows = head["recipients"]
        if not rows:
            raise NotALetter("it has no recipients")
        message = NewMessage(
            recipients=tuple(
                NewRecipient(str(to), str(notify), str(orcpt)) for to, notify, orcpt, *_ in rows
            ),
            body=body,
            # The connection that it came over has its number in the log of the member that accepted it.
            icid=0,
            **{name: head[name] for name in _MESSAGE},
        )
        recipients = tuple(
            HandedRecipient(int(rid), int(attempts), float(next_attempt), bool(told))
            for _, _, _, rid, attempts, next_attempt, told in rows
        )
        return Handed(str(head["source"]), int(head["mid"]), message, float(head["queued_at"]), recipients)
    except (KeyError, TypeError, ValueError) as problem:
        raise NotALetter(f"not a handed-over message: {problem!r}") from problem
