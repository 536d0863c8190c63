"""How a session takes octets and gives replies, without I/O; what commands mean is in `session`.

`feed` takes what the client sent. Afterwards `out` holds what is to be sent, `notes` what the log should say,
`text` what came of `message`, and `action` what the shell is to do before the session goes on.
"""

from abc import ABC, abstractmethod
from typing import Final

from letterlock_gateway.receive import replies
from letterlock_gateway.receive.actions import Action, Close, Message, Store
from letterlock_gateway.receive.allowances import COMMAND
from letterlock_gateway.receive.data import Incoming
from letterlock_gateway.receive.envelope import Envelope
from letterlock_gateway.receive.lines import Lines
from letterlock_gateway.receive.orders import Phase
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.terms import Terms
from letterlock_gateway.receive.trace import TLSDetails

# After this many commands that no sound client sends, the client is not worth more time. As Postfix does.
MAX_ERRORS: Final = 20
# What is at hand is worked off so much at a time, before others have their turn: commands, and octets of text.
COMMANDS_AT_ONCE: Final = 16
TEXT_AT_ONCE: Final = 64 * 1024
_IDLE: Final = frozenset({Phase.NEW, Phase.READY})
_DEAF: Final = frozenset({Phase.WAITING, Phase.CLOSED})


class Dialogue(ABC):
    """The mechanics of a session under the given terms. `greet` first."""

    __slots__ = (
        "_envelope",
        "_errors",
        "_hello",
        "_incoming",
        "_lines",
        "_refusal",
        "_terms",
        "action",
        "message",
        "more",
        "notes",
        "out",
        "phase",
        "stopping",
        "text",
        "tls",
        "work",
    )

    def __init__(self, terms: Terms, *, tls: TLSDetails | None) -> None:
        self._terms = terms
        self._lines = Lines()
        self._errors = 0
        self._hello = ""
        self._incoming: Incoming | None = None
        self._envelope: Envelope | None = None
        # RFC 5321 section 3.1, RFC 3207 section 4.1: the one reply to everything but QUIT.
        self._refusal: Reply | None = replies.REFUSED if terms.policy.behavior == "Reject" else None
        self.phase = Phase.NEW
        self.tls: TLSDetails | None = tls
        self.out: list[bytes] = []
        self.notes: list[str] = []
        self.action: Action | None = None
        self.message: Message | None = None
        """Whose text comes in, as long as it may be taken."""
        self.text: list[bytes] = []
        """What came of it: dots unstuffed, nothing in it that could smuggle. The shell takes it out."""
        self.stopping = False
        self.work = 0
        """How much was asked for, in octets (`allowances`). The shell counts from zero again when it likes."""
        self.more = False
        """Whether more is at hand than is worked off at a time: call `go_on`."""

    @property
    def unwanted(self) -> bool:
        """Whether what comes in now is thrown away: the rest of a refused text, or of a line that does not end."""
        return self._lines.skipping or (self.phase is Phase.DATA and self.message is None)

    @property
    def idle(self) -> bool:
        """Whether no message is under way."""
        return self.phase in _IDLE

    def greet(self) -> None:
        """Say the first word."""
        self._say(self._terms.greeting)

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""
        if self.phase is Phase.CLOSED:
            return
        self._lines.add(data)
        self._advance()

    def go_on(self) -> None:
        """Work on what is at hand, after others had their turn."""
        self._advance()

    def refuse(self, refusal: Reply) -> None:
        """From now on `refusal` is the reply to all but QUIT."""
        self._refusal = refusal

    def stop(self) -> None:
        """End it: now if no message is under way, else after that message."""
        self.stopping = True
        if self.idle:
            self._end(replies.SHUTTING_DOWN)

    def cut(self, reply: Reply) -> None:
        """End it now."""
        if self.phase is not Phase.CLOSED:
            self._end(reply)

    # Input

    def _advance(self) -> None:
        lines = self._lines
        at_hand = lines.left
        left = TEXT_AT_ONCE
        while lines.left and self.phase not in _DEAF and left > 0:
            if self.phase is Phase.DATA:
                left -= self._take_text(left)
                continue
            line = lines.next()
            if line is None:
                break
            left -= TEXT_AT_ONCE // COMMANDS_AT_ONCE
            self.work += COMMAND
            if isinstance(line, Reply):
                self._fault(line)
            else:
                self._command(line)
        self.more = left <= 0 and lines.left > 0 and self.phase not in _DEAF
        self.work += at_hand - lines.left

    def _take_text(self, most: int) -> int:
        """Take at most so many octets of text; how many they were."""
        incoming = self._incoming
        envelope = self._envelope
        if incoming is None or envelope is None:  # cannot be: DATA sets both
            raise AssertionError("DATA without a message")
        piece = self._lines.take(most)
        rest = incoming.feed(piece)
        if rest:
            self._lines.give_back(len(rest))
        refusal = incoming.refusal
        if refusal is None:
            self.text += incoming.pieces
            incoming.pieces.clear()
        else:  # the rest is read only so that the client hears of it
            self.message = None
            self.text.clear()
        if rest is not None:
            self._text_ended(envelope, incoming, refusal)
        elif refusal is not None and incoming.hopeless:
            self._end(refusal)
        return len(piece)

    def _text_ended(self, envelope: Envelope, incoming: Incoming, refusal: Reply | None) -> None:
        self._incoming = None
        if refusal is None and self.message is not None:
            self.phase = Phase.WAITING
            self.action = Store(self.message, incoming.ascii, incoming.plain)
            return
        refusal = refusal or replies.STORE_FAILED
        self.notes.append(f"message from <{envelope.sender}> refused: {refusal.code} {refusal.text}")
        self._say(refusal)
        self._forget_message()
        if self.stopping:
            self._end(replies.SHUTTING_DOWN)

    @abstractmethod
    def _command(self, text: str) -> None:
        """Answer a command, whose line is `text`."""

    # Output

    def _say(self, reply: Reply) -> None:
        self.out.append(reply.wire)

    def _fault(self, reply: Reply) -> None:
        """A reply to what no sound client sends."""
        self._say(reply)
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._end(replies.TOO_MANY_ERRORS)

    def _end(self, reply: Reply) -> None:
        self._say(reply)
        self._forget_message()
        self._lines.clear()
        self.phase = Phase.CLOSED
        self.action = Close()

    def _forget_message(self) -> None:
        self._envelope = None
        self._incoming = None
        self.message = None
        self.text.clear()
        self.phase = Phase.READY if self._hello else Phase.NEW
