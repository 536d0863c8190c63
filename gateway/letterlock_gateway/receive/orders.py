"""Which command may come when: the session's state machine as a table. Pure; every cell is tested.

RFC 5321 section 4.1.4.
"""

from collections.abc import Mapping
from enum import IntEnum, auto
from typing import Final

from letterlock_gateway.receive import replies
from letterlock_gateway.receive.replies import Reply


class Phase(IntEnum):  # an Enum's hash is computed in Python, at every look into a table
    """Where a session is."""

    NEW = auto()
    """No EHLO yet, or none since TLS began."""
    READY = auto()
    MAIL = auto()
    """A sender, and no recipient yet."""
    RCPT = auto()
    """At least one recipient has been accepted."""
    DATA = auto()
    """The text comes in."""
    WAITING = auto()
    """The shell carries out an action."""
    CLOSED = auto()


# Phases in which commands are read at all.
LISTENING: Final = (Phase.NEW, Phase.READY, Phase.MAIL, Phase.RCPT)
# What a command is answered in a phase in which it may not come. Commands that are not here may come at any
# time.
OUT_OF_ORDER: Final[Mapping[str, Mapping[Phase, Reply]]] = {
    "MAIL": {
        Phase.NEW: replies.HELLO_FIRST,
        Phase.MAIL: replies.NESTED_MAIL,
        Phase.RCPT: replies.NESTED_MAIL,
    },
    "RCPT": {Phase.NEW: replies.HELLO_FIRST, Phase.READY: replies.MAIL_FIRST},
    "DATA": {
        Phase.NEW: replies.HELLO_FIRST,
        Phase.READY: replies.MAIL_FIRST,
        Phase.MAIL: replies.RECIPIENT_FIRST,
    },
}
# RFC 3207 section 4: answered before TLS where TLS is required. HELO is not among them.
BEFORE_TLS: Final = frozenset({"NOOP", "EHLO", "STARTTLS", "QUIT"})
# RFC 2920 section 3.1: nothing may follow these in one group. (QUIT too, but what follows it is never read.)
LAST_OF_GROUP: Final = frozenset({"EHLO", "HELO", "DATA", "STARTTLS"})
