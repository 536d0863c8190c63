"""Hands one message to another member. Called by `leaving`."""

import ssl
from typing import Final

from letterlock_api.state import HANDOVER_PATH
from letterlock_gateway import peers
from letterlock_gateway.peers import Patience, PeerRefused

# One message may take long: a large one takes its time to be written over there. The answer is a number.
_PATIENCE: Final = Patience(connect=5.0, answer=120.0, most=65536)


async def send(address: str, port: int, context: ssl.SSLContext, letter: bytes) -> int:
    """Have the member at `address` take `letter`. Gives its number there.

    Raises PeerRefused; PeerSilent: it may have taken it. Only it can tell: send it there again.
    """
    text = (await peers.post(address, port, context, HANDOVER_PATH, letter, _PATIENCE)).decode(
        errors="replace"
    )
    if not text.strip().isdecimal():
        raise PeerRefused(f"{address} answers: {text[:200]}")
    return int(text)
