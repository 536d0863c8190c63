"""What a member that stays does with a message that another one hands over: the worker's half, and the supervisor's.

`endpoints` reads it from a peer that has proved to be a member; the supervisor (`order`) has a worker store it
(`carry_out`), over the worker's channel.
"""

import zlib
from base64 import b64decode, b64encode
from typing import Any, Final

from letterlock_gateway.channel import Message
from letterlock_gateway.handover import letters
from letterlock_gateway.report.log import Log
from letterlock_gateway.spool import Spool, SpoolFailed

DO: Final = "adopt"


def order(content: bytes) -> dict[str, Any]:
    """The order to store the message in `content` (`letters.encode`)."""
    return {"do": DO, "content": b64encode(content).decode()}


def chosen(content: bytes, workers: int) -> int:
    """Which of so many workers takes it: the same one each time, since it alone knows whether it has it already.

    Raises letters.NotALetter.
    """
    handed = letters.decode(content)
    return zlib.crc32(f"{handed.source} {handed.mid}".encode()) % workers


async def carry_out(order: Message, spool: Spool, mail_log: Log) -> dict[str, Any]:
    """Store it; gives its number (`mid`), or why it was not stored (`problem`)."""
    try:
        handed = letters.decode(b64decode(order["content"]))
        mid = await spool.adopt(handed)
    except (SpoolFailed, letters.NotALetter) as failure:
        return {"problem": str(failure)}
    names = ", ".join(f"<{one.address}>" for one in handed.message.recipients[:3])
    mail_log.info(
        f"MID {mid} taken over ({handed.message.client}) From: <{handed.message.sender}> To: {names}"
        f"{' and more' if len(handed.recipients) > 3 else ''}",
        mid=mid,
    )
    return {"mid": mid}
