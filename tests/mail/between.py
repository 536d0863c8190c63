"""A member and the real Postfix behind it, as the fixture `between` of this folder's conftest makes them."""

from collections.abc import Callable
from dataclasses import dataclass

from letterlock_api.destinationcontrol import LastTLS
from tests.harness import letters, waiting
from tests.harness.member import Member
from tests.harness.postfix import Postfix
from tests.harness.relay import Relay


@dataclass(frozen=True)
class Between:
    """A running member and its next hop."""

    relay: Relay
    member: Member
    receiver: Postfix

    @property
    def port(self) -> int:
        """The listener's port on loopback."""
        return self.relay.port

    def wait_arrived(self, message: bytes, *, seconds: float = 30) -> bytes:
        """The mailbox's copy of `message`, once it is there. Raises TimeoutError."""
        return waiting.until(
            lambda: letters.arrived(message, self.receiver.messages()),
            seconds=seconds,
            what="the message, byte for byte, in the mailbox",
        )

    def wait_last_tls(self, result: str) -> LastTLS:
        """What the member says of its last delivery, once that came to `result`. Raises TimeoutError."""

        def seen() -> LastTLS | None:
            state = self.member.destination("mailbox")
            return state.last_tls if state and state.last_tls and state.last_tls.result == result else None

        try:
            return waiting.until(seen, what=f"a last delivery of {result}")
        except TimeoutError as problem:
            raise TimeoutError(f"{problem}; state: {self.member.state()}") from None

    def wait_queue(self, length: int) -> None:
        """Return once the member says that so many recipients wait. Raises TimeoutError."""
        waiting.until(lambda: self.member.queue() == length, what=f"a queue of {length}")


type MakeBetween = Callable[..., Between]
