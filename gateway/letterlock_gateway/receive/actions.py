"""What a session wants its shell to do, and the message that it does it to. Plain values."""

from dataclasses import dataclass

from letterlock_gateway.receive.commands import Mail, Rcpt
from letterlock_gateway.spool import NewRecipient


@dataclass(frozen=True, slots=True)
class Message:
    """A message whose text comes in: all that is known of it before its first octet."""

    mail: Mail
    sender: str
    recipients: tuple[NewRecipient, ...]
    hello: str
    protocol: str
    """The WITH clause of the trace header."""


@dataclass(frozen=True, slots=True)
class Store:
    """Action: the text of this message has come to its end. Store it, then call `stored`."""

    message: Message
    ascii: bool
    """Whether its text has no octet above 127."""
    plain: bool
    """Whether no line of it begins with a dot."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Action: ask the directory for this recipient, then call `known`."""

    rcpt: Rcpt
    address: str
    """Where its mail would go."""
    query: str
    """The LDAP filter."""


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Action: shake hands once what is in `out` has been sent, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Action: close the connection once what is in `out` has been sent."""


type Action = Store | Ask | StartTLS | Close
