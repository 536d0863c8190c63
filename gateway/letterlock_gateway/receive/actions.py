"""What a session wants its shell to do, and the message that it does it to. Plain values."""

from letterlock_gateway import values
from letterlock_gateway.receive.commands import Mail, Rcpt
from letterlock_gateway.spool import NewRecipient


@values.value
class Message:
    """A message whose text comes in: all that is known of it before its first octet."""

    mail: Mail
    sender: str
    recipients: tuple[NewRecipient, ...]
    hello: str
    protocol: str
    """The WITH clause of the trace header."""


@values.value
class Store:
    """Action: the text of this message has come to its end. Store it, then call `stored`."""

    message: Message
    ascii: bool
    """Whether its text has no octet above 127."""
    plain: bool
    """Whether no line of it begins with a dot."""


@values.value
class Ask:
    """Action: ask the directory for this recipient, then call `known`."""

    rcpt: Rcpt
    address: str
    """Where its mail would go."""
    query: str
    """The LDAP filter."""


@values.value
class StartTLS:
    """Action: shake hands once what is in `out` has been sent, then call `tls_started`."""


@values.value
class Close:
    """Action: close the connection once what is in `out` has been sent."""


type Action = Store | Ask | StartTLS | Close
