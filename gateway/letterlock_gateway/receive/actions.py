"""What a session wants its shell to do. Plain values."""

from dataclasses import dataclass

from letterlock_gateway.receive.commands import Mail
from letterlock_gateway.spool import NewRecipient


@dataclass(frozen=True, slots=True)
class Store:
    """Action: store this message, then call `stored`."""

    mail: Mail
    sender: str
    recipients: tuple[NewRecipient, ...]
    body: bytes
    """Without the trace header of this hop."""
    hello: str
    protocol: str
    """The WITH clause of the trace header."""


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Action: shake hands once what is in `out` has been sent, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Action: close the connection once what is in `out` has been sent."""


type Action = Store | StartTLS | Close
