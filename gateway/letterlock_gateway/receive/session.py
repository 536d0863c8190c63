"""One SMTP session without I/O: octets in, replies and actions out.

RFC 5321, with RFC 2034, 2920, 3207, 3461 and 6531. `feed` takes what the client sent. Afterwards `out` holds
what is to be sent, `notes` what the log should say, `text` what came of `message`, and `action` what the
shell is to do before the session goes on: it takes no further command until `tls_started`, `stored` or `known`
is called.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from letterlock_gateway.receive import commands, replies, trace
from letterlock_gateway.receive.actions import Action, Ask, Close, Message, StartTLS, Store
from letterlock_gateway.receive.allowances import COMMAND
from letterlock_gateway.receive.commands import Rcpt
from letterlock_gateway.receive.data import Incoming
from letterlock_gateway.receive.envelope import Envelope
from letterlock_gateway.receive.limits import Quota
from letterlock_gateway.receive.lines import Lines
from letterlock_gateway.receive.orders import BEFORE_TLS, LAST_OF_GROUP, OUT_OF_ORDER, Phase
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.terms import Terms
from letterlock_gateway.receive.trace import TLSDetails

# After this many commands that no sound client sends, the client is not worth more time. As Postfix does.
MAX_ERRORS: Final = 20
# So many commands without a message between them are fair; after that each is an error. As Postfix does.
MAX_IDLE_COMMANDS: Final = 100
# What is at hand is worked off so much at a time, before others have their turn: commands, and octets of text.
COMMANDS_AT_ONCE: Final = 16
TEXT_AT_ONCE: Final = 64 * 1024
# Recipients that one connection may ask for in vain: more is no typing error but somebody who tries names.
MAX_REJECTED: Final = 100
# Recipients beyond a limit, since the last message, before each is one in vain as well: a client asks for all that it
# has, and sends to those that were taken (RFC 5321 section 4.5.3.1.10). As Postfix's smtpd_recipient_overshoot_limit.
MAX_BEYOND: Final = 1000
_NOTHING: Final[Mapping[Phase, Reply]] = {}
_BEYOND_LIMITS: Final = (replies.TOO_MANY_RECIPIENTS, replies.TOO_MANY_THIS_HOUR)
_IDLE: Final = frozenset({Phase.NEW, Phase.READY})
_DEAF: Final = frozenset({Phase.WAITING, Phase.CLOSED})


class Session:
    """A session under the given terms. `greet` first."""

    __slots__ = (
        "_beyond",
        "_envelope",
        "_errors",
        "_extended",
        "_hello",
        "_idle_commands",
        "_incoming",
        "_lines",
        "_messages",
        "_quota",
        "_refusal",
        "_rejected",
        "_terms",
        "accepted",
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

    def __init__(self, terms: Terms, quota: Quota, *, tls: TLSDetails | None = None) -> None:
        """`tls`: given where TLS was there from the first byte."""
        self._terms = terms
        self._quota = quota
        self._lines = Lines()
        self._errors = 0
        self._idle_commands = 0
        self._rejected = 0
        self._beyond = 0
        self._messages = 0
        self._extended = False
        self._hello = ""
        self._incoming: Incoming | None = None
        self._envelope: Envelope | None = None
        # RFC 5321 section 3.1, RFC 3207 section 4.1: the one reply to everything but QUIT.
        self._refusal: Reply | None = replies.REFUSED if terms.policy.behavior == "Reject" else None
        self.phase = Phase.NEW
        self.tls = tls
        self.out: list[bytes] = []
        self.notes: list[str] = []
        self.action: Action | None = None
        self.message: Message | None = None
        """Whose text comes in, as long as it may be taken."""
        self.text: list[bytes] = []
        """What came of it: dots unstuffed, nothing in it that could smuggle. The shell takes it out."""
        self.accepted = 0
        """Recipients accepted in this connection."""
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

    def stored(self, reply: Reply) -> None:
        """The message of `Store` has been stored, or not: `reply` says so to the client."""
        if self.phase is Phase.CLOSED:
            return
        self.action = None
        self._say(reply)
        if reply.code == 250:
            self._messages += 1
            self._errors = self._idle_commands = self._beyond = 0
        self._forget_message()
        if self.stopping:
            self._end(replies.SHUTTING_DOWN)
        self._advance()

    def known(self, refusal: Reply | None) -> None:
        """The directory knows the recipient of `Ask`; or `refusal`."""
        asked, self.action = self.action, None
        if self.phase is Phase.CLOSED or self._envelope is None or not isinstance(asked, Ask):
            return
        self.phase = Phase.RCPT if self._envelope.recipients else Phase.MAIL
        self._take_recipient(asked.rcpt, refusal or asked.address)
        self._advance()

    def tls_started(self, details: TLSDetails, refusal: Reply | None = None) -> None:
        """TLS is there. All that the client said before is forgotten (RFC 3207 section 4.2).

        `refusal`: the client's certificate is not good enough; from now on it is the reply to all but QUIT.
        """
        self._lines.clear()
        self._hello = ""
        self._extended = False
        self._envelope = None
        self._refusal = self._refusal or refusal
        self.action = None
        self.tls = details
        self.phase = Phase.NEW

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

    def _command(self, text: str) -> None:
        verb, _, argument = text.partition(" ")
        verb = verb.upper().rstrip()
        argument = argument.rstrip(" ")
        if self._refusal is not None and verb != "QUIT":
            self._fault(self._refusal)
            return
        if self.tls is None and self._terms.tls_required and verb not in BEFORE_TLS:
            self.notes.append("TLS was required but remote host did not initiate it")
            self._fault(replies.TLS_FIRST)
            return
        handler = self._HANDLERS.get(verb)
        if handler is None:
            self._fault(replies.UNKNOWN_COMMAND)
        elif (out_of_order := OUT_OF_ORDER.get(verb, _NOTHING).get(self.phase)) is not None:
            self._fault(out_of_order)
        elif verb in LAST_OF_GROUP and self._lines.left:
            # RFC 2920 section 3.1. Before TLS this is how commands are injected into the encrypted session.
            self.notes.append(f"input after {verb}, which must be the last of its group")
            self._end(replies.PIPELINING)
        else:
            handler(self, argument)

    # Commands

    def _ehlo(self, argument: str) -> None:
        if self._greeted(argument):
            self._extended = True
            self._say(self._terms.hello_clear if self.tls is None else self._terms.hello_tls)

    def _helo(self, argument: str) -> None:
        if self._greeted(argument):
            self._extended = False
            self._say(self._terms.hello)

    def _greeted(self, argument: str) -> bool:
        name = commands.hello(argument)
        if isinstance(name, Reply):
            self._fault(name)
            return False
        self._hello = name
        self._forget_message()
        return self._not_too_idle()

    def _mail(self, argument: str) -> None:
        mail = commands.mail(argument)
        if isinstance(mail, Reply):
            self._fault(mail)
            return
        if self._messages >= self._terms.policy.max_messages_per_connection:
            self._end(replies.TOO_MANY_MESSAGES)
            return
        envelope = Envelope.begin(mail, self._terms, tls=self.tls is not None)
        if isinstance(envelope, Reply):
            if envelope is replies.TLS_FIRST:
                self.notes.append(
                    f"TLS was required of <{mail.path.address}> but remote host did not initiate it"
                )
            self._say(envelope)
            return
        self._envelope = envelope
        self.phase = Phase.MAIL
        self._say(replies.SENDER_OK)

    def _rcpt(self, argument: str) -> None:
        rcpt = commands.rcpt(argument)
        if isinstance(rcpt, Reply):
            self._fault(rcpt)
            return
        if self._envelope is None:  # cannot be: the order is checked before
            raise AssertionError("RCPT without MAIL")
        address = self._envelope.resolve(rcpt, self._terms)
        query = self._terms.query_for(rcpt.path, address) if isinstance(address, str) else None
        if isinstance(address, Reply) or query is None:
            self._take_recipient(rcpt, address)
        else:
            self.phase = Phase.WAITING
            self.action = Ask(rcpt, address, query)

    def _take_recipient(self, rcpt: Rcpt, found: str | Reply) -> None:
        """Take a recipient, whose mail goes to `found`, or refuse it."""
        if self._envelope is None:  # cannot be: the order is checked before
            raise AssertionError("RCPT without MAIL")
        refusal = (
            found if isinstance(found, Reply) else self._envelope.add(rcpt, found, self._terms, self._quota)
        )
        if refusal is None:
            self.accepted += 1
            self.phase = Phase.RCPT
        elif refusal.code >= 500 or refusal is replies.DIRECTORY_FAILED:
            self.notes.append(f"To: <{rcpt.path.address}> rejected: {refusal.text}")
        self._say(refusal or replies.RECIPIENT_OK)
        if refusal is not None and self._was_in_vain(refusal):
            self._rejected += 1
            if self._rejected >= MAX_REJECTED:
                self._end(replies.TOO_MANY_ERRORS)

    def _was_in_vain(self, refusal: Reply) -> bool:
        """Whether a recipient that got `refusal` counts as one that somebody tried."""
        if refusal not in _BEYOND_LIMITS:
            return True
        self._beyond += 1
        return self._beyond > MAX_BEYOND

    def _data(self, argument: str) -> None:
        if argument:
            self._fault(replies.NO_PARAMETERS)
        elif not self._quota.has_room():
            self._say(replies.BUFFERS_FULL)
        else:
            self._begin_text()
            self._say(replies.START_DATA)

    def _begin_text(self) -> None:
        envelope = self._envelope
        if envelope is None:  # cannot be: the order is checked before
            raise AssertionError("DATA without MAIL")
        mail = envelope.mail
        self.message = Message(
            mail,
            envelope.sender,
            tuple(envelope.recipients),
            self._hello,
            trace.with_protocol(extended=self._extended, tls=self.tls is not None, smtputf8=mail.smtputf8),
        )
        self._incoming = Incoming(self._terms.policy.max_message_size, self._terms.max_hops)
        self.phase = Phase.DATA

    def _starttls(self, argument: str) -> None:
        if self.tls is not None:
            self._fault(replies.TLS_ACTIVE)
        elif not self._terms.tls_offered:
            self._fault(replies.TLS_NOT_OFFERED)
        elif argument:
            self._fault(replies.TLS_NO_PARAMETERS)
        elif self._terms.context is None:
            self._say(replies.TLS_UNAVAILABLE)
        else:
            self._say(replies.READY_FOR_TLS)
            self.phase = Phase.WAITING
            self.action = StartTLS()

    def _rset(self, argument: str) -> None:
        if argument:
            self._fault(replies.NO_PARAMETERS)
            return
        self._forget_message()
        if self._not_too_idle():
            self._say(replies.RESET)

    def _noop(self, _: str) -> None:
        if self._not_too_idle():
            self._say(replies.OK)

    def _vrfy(self, _: str) -> None:
        if self._not_too_idle():
            self._say(replies.WILL_TRY)

    def _help(self, _: str) -> None:
        if self._not_too_idle():
            self._say(replies.HELP)

    def _quit(self, _: str) -> None:
        self._end(replies.GOODBYE)

    def _not_implemented(self, _: str) -> None:
        self._fault(replies.NOT_IMPLEMENTED)

    _HANDLERS: ClassVar[Mapping[str, Callable[[Any, str], None]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "MAIL": _mail,
        "RCPT": _rcpt,
        "DATA": _data,
        "STARTTLS": _starttls,
        "RSET": _rset,
        "NOOP": _noop,
        "VRFY": _vrfy,
        "HELP": _help,
        "QUIT": _quit,
        # Known commands of extensions that are not offered here.
        **dict.fromkeys(("EXPN", "AUTH", "BDAT", "ETRN", "TURN", "ATRN"), _not_implemented),
    }

    def _not_too_idle(self) -> bool:
        """Count a command that leads nowhere. False: there were too many, and it has been answered."""
        self._idle_commands += 1
        if self._idle_commands <= MAX_IDLE_COMMANDS:
            return True
        self._fault(replies.TOO_IDLE)
        return False

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
