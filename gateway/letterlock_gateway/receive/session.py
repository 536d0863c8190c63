"""One SMTP session without I/O: what each command means (RFC 5321, with RFC 2034, 2920, 3207, 3461 and 6531).

How octets come in and replies go out is in `dialogue`. A session takes no further command while there is an `action`,
until `tls_started`, `stored` or `known` is called.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, override

from letterlock_gateway.receive import commands, replies, trace
from letterlock_gateway.receive.actions import Ask, Message, StartTLS
from letterlock_gateway.receive.commands import Rcpt
from letterlock_gateway.receive.data import Incoming
from letterlock_gateway.receive.dialogue import Dialogue
from letterlock_gateway.receive.envelope import Envelope
from letterlock_gateway.receive.limits import Quota
from letterlock_gateway.receive.orders import BEFORE_TLS, LAST_OF_GROUP, OUT_OF_ORDER, Phase
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.terms import Terms
from letterlock_gateway.receive.trace import TLSDetails

# So many commands without a message between them are fair; after that each is an error. As Postfix does.
MAX_IDLE_COMMANDS: Final = 100
# Recipients that one connection may ask for in vain: more is no typing error but somebody who tries names.
MAX_REJECTED: Final = 100
# Recipients beyond a limit, since the last message, before each is one in vain as well: a client asks for all that it
# has, and sends to those that were taken (RFC 5321 section 4.5.3.1.10). As Postfix's smtpd_recipient_overshoot_limit.
MAX_BEYOND: Final = 1000
_NOTHING: Final[Mapping[Phase, Reply]] = {}
_BEYOND_LIMITS: Final = (replies.TOO_MANY_RECIPIENTS, replies.TOO_MANY_THIS_HOUR)


class Session(Dialogue):
    """A session under the given terms. `greet` first."""

    __slots__ = ("_beyond", "_extended", "_idle_commands", "_messages", "_quota", "_rejected", "accepted")

    def __init__(self, terms: Terms, quota: Quota, *, tls: TLSDetails | None = None) -> None:
        """`tls`: given where TLS was there from the first byte."""
        super().__init__(terms, tls=tls)
        self._quota = quota
        self._idle_commands = 0
        self._rejected = 0
        self._beyond = 0
        self._messages = 0
        self._extended = False
        self.accepted = 0
        """Recipients accepted in this connection."""

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

    @override
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
