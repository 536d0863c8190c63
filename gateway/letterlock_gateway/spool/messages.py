"""Messages as they come into the spool and as deliveries get them out of it: plain, frozen values."""

import idna

from letterlock_gateway import values


@values.value
class NewRecipient:
    """A recipient of a message that is to be stored."""

    address: str
    notify: str = ""
    """NOTIFY of RFC 3461, as it was given."""
    orcpt: str = ""
    """ORCPT of RFC 3461, as it was given."""


@values.value
class NewMessage:
    """A message that is to be stored."""

    sender: str
    """Envelope sender; empty: the null sender."""
    recipients: tuple[NewRecipient, ...]
    body: bytes
    """Header and text with CRLF line ends, dots not stuffed, trace header included."""
    icid: int
    """The connection it came over; 0: made here (a bounce)."""
    smtputf8: bool = False
    body_8bit: bool = False
    ret: str = ""
    envid: str = ""
    received_protocol: str | None = None
    """TLS version it was received over; None: in clear, or made here."""
    received_cipher: str | None = None
    client: str = ""
    """Who brought it, for tracking: verified name and address; empty: made here."""
    about: int | None = None
    """The message that this one, made here, tells of (a bounce, a notice)."""

    def with_body(self, body: bytes) -> "NewMessage":
        """The same with another body. `dataclasses.replace` costs five times as much, for every message."""
        return NewMessage(
            self.sender,
            self.recipients,
            body,
            self.icid,
            self.smtputf8,
            self.body_8bit,
            self.ret,
            self.envid,
            self.received_protocol,
            self.received_cipher,
            self.client,
            self.about,
        )


@values.value
class Queued:
    """One recipient that is to be delivered, with what its delivery needs to know of the message."""

    rid: int
    mid: int
    address: str
    domain: str
    """Lower case, A-labels: what policy, routes and MX are looked up by."""
    sender: str
    attempts: int
    """Attempts that were deferred so far."""
    queued_at: float
    """Unix seconds."""
    next_attempt: float
    """Unix seconds."""
    smtputf8: bool
    body_8bit: bool
    notify: str
    orcpt: str
    ret: str
    envid: str
    size: int
    """Of the body, bytes."""
    received_protocol: str | None
    told_delay: bool = False
    """Whether the sender has been told that it waits."""


@values.value
class Waiting:
    """One recipient that waits, as orders about the queue need it."""

    rid: int
    mid: int
    address: str
    domain: str


def domain_of(address: str) -> str:
    """The domain of `address` in lower case, as A-labels where they can be made (RFC 5891).

    Empty where it has none.
    """
    domain = address.rpartition("@")[2].lower() if "@" in address else ""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return domain
