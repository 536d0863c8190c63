"""Asks the other members of the gateway what the pages of this one show of them. Run by the supervisor.

The supervisor alone has the identity that members know each other by. It passes questions and answers on without
reading them: what may be asked is decided over there (`web.looks`), what an answer is worth by who asked.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from letterlock_api.state import LOOK_PATH
from letterlock_gateway import peers
from letterlock_gateway.channel import Message
from letterlock_gateway.mount import Identity
from letterlock_gateway.peers import Patience, PeerRefused, PeerSilent, PeerUnreached
from letterlock_gateway.tls import contexts

DO: Final = "look"
"""Of an order (`do`) by the member's own door."""
# Seconds: somebody waits for a page, and who is not there at all is known soon.
_CONNECT: Final = 2.0
_LONGEST: Final = 15.0
_MOST: Final = 4 * 1024 * 1024  # bytes


def order(addresses: Mapping[str, str], question: str, seconds: float) -> dict[str, Any]:
    """The order to ask the members at these addresses, by name. The answer has a `said` for each.

    `seconds`: that an answer may take.
    """
    return {"do": DO, "at": dict(addresses), "question": question, "seconds": seconds}


class Gathering:
    """Carries such orders out. All methods are for the supervisor's event loop."""

    def __init__(self, port: int, identity: Callable[[], Identity | None]) -> None:
        """`port`: that members answer on. `identity`: as it is mounted now."""
        self._port = port
        self._identity = identity
        self._context: tuple[Identity, ssl.SSLContext] | None = None

    async def carry_out(self, order: Message) -> dict[str, Any]:
        """Ask all at the same time. By name, either what one answers (`text`), or why there is no answer (`problem`).

        `unreached` is true where there was no connection at all.
        """
        asked: dict[str, str] = order["at"]
        try:
            context = self._proof()
        except contexts.BadCertificate as problem:
            return {"said": {name: {"problem": str(problem)} for name in asked}}
        question = order["question"].encode()
        patience = Patience(_CONNECT, min(float(order["seconds"]), _LONGEST), _MOST)
        said = await asyncio.gather(
            *(self._one(address, context, question, patience) for address in asked.values())
        )
        return {"said": dict(zip(asked, said, strict=True))}

    async def _one(
        self, address: str, context: ssl.SSLContext, question: bytes, patience: Patience
    ) -> dict[str, Any]:
        try:
            answer = await peers.post(address, self._port, context, LOOK_PATH, question, patience)
            return {"text": answer.decode()}
        except PeerUnreached as problem:
            return {"problem": str(problem), "unreached": True}
        except (PeerRefused, PeerSilent) as problem:
            return {"problem": str(problem)}
        except UnicodeDecodeError:
            return {"problem": "its answer is no text"}

    def _proof(self) -> ssl.SSLContext:
        """What this member proves itself with. Raises BadCertificate."""
        identity = self._identity()
        if identity is None:
            raise contexts.BadCertificate("there is no certificate yet to prove ourselves with")
        if self._context is None or self._context[0] != identity:
            try:
                self._context = (identity, peers.context_of(identity))
            except ssl.SSLError as problem:
                raise contexts.BadCertificate(f"our certificate cannot be used: {problem}") from problem
        return self._context[1]
