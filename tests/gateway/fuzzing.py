"""A fuzzer of the protocol session: makes what clients might send, and knows what must hold whatever they send.

`make test` runs it for a bounded number of examples and replays `corpus/`, `make fuzz` runs it for as long as it
is told (`python -m tests.gateway.fuzzing SECONDS`) and writes the smallest case that broke a rule into the
corpus, to be committed with its mending.
"""

import json
import re
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from letterlock_api.snapshot import ReceptionPolicy, RecipientRule
from letterlock_gateway.receive import replies, trace
from letterlock_gateway.receive.actions import Ask, Close, StartTLS, Store
from letterlock_gateway.receive.limits import Limits, Quota
from letterlock_gateway.receive.orders import Phase
from letterlock_gateway.receive.recipients import Recipients
from letterlock_gateway.receive.session import Session
from letterlock_gateway.receive.terms import compile_terms
from letterlock_gateway.receive.trace import TLSDetails

CORPUS: Final = Path(__file__).parent / "corpus"
_CONTEXT: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_TLS: Final = TLSDetails("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
_RULES: Final = [RecipientRule(match=["here.example"], accept=True)]
_MAX_SIZE: Final = 300
_MAX_RECIPIENTS: Final = 3
_MAX_HOPS: Final = 2
_REPLY_LINE: Final = re.compile(rb"[2345]\d\d[ -][\x20-\x7e]*")
_END: Final = re.compile(rb"(?=\r\n\.\r\n)")
# Twice RFC 5321's line of 1000 octets, and something for extensions.
_MAX_HELD: Final = 2048
_STUFFED: Final = re.compile(rb"\r\n\.(?!\r\n)")
# The longest reply is the one to EHLO; a command may be answered twice: by its error, and by the end.
_MAX_REPLY: Final = 1024

# Behind a TLS mode: a directory is asked for recipients.
_ASKING: Final = ", asking"

Script = tuple[str, list[list[bytes]]]
"""A TLS mode, and what is sent: each inner list is one group, cut into pieces; after it the client waits."""


@dataclass
class Outcome:
    """What came of a script."""

    said: bytes = b""
    events: list[object] = field(default_factory=list[object])
    bodies: list[bytes] = field(default_factory=list[bytes])
    refused: int = 0
    """Texts that came to their end and were refused."""
    injected: bool = False
    """Whether something followed a command that must be the last of its group: that depends on the cuts."""


def run(mode: str, groups: Sequence[Sequence[bytes]]) -> Outcome:
    """Play a script; raises AssertionError where a rule is broken."""
    terms = compile_terms(
        ReceptionPolicy.model_validate(
            {
                "name": "p",
                "behavior": "Accept",
                "tls_mode": mode.partition(",")[0],
                "max_message_size": _MAX_SIZE,
                "max_recipients_per_message": _MAX_RECIPIENTS,
                "max_messages_per_connection": 2,
            }
        ),
        hostname="mx.here.example",
        recipients=Recipients(_RULES, default_domain="here.example", postmaster="pm@here.example"),
        max_hops=_MAX_HOPS,
        context=_CONTEXT,
        query="(mail={a})" if mode.endswith(_ASKING) else "",
    )
    session = Session(terms, Quota(Limits(lambda: 0.0), "192.0.2.1"))
    session.greet()
    outcome = Outcome()
    text: list[bytes] = []
    _obey(session, mode, outcome, text, sent=b"")
    for piece in (piece for group in groups for piece in group):
        session.feed(piece)
        _obey(session, mode, outcome, text, sent=piece)
        if session.phase is Phase.CLOSED:
            break
    outcome.refused = sum(note.startswith("message from <") for note in session.notes)
    outcome.injected = any("last of its group" in note for note in session.notes)
    return outcome


def _obey(session: Session, mode: str, outcome: Outcome, text: list[bytes], *, sent: bytes) -> None:
    """Do what the shell would do, and look whether all is as it must be."""
    while True:
        said = b"".join(session.out)
        session.out.clear()
        assert said.count(b"\r\n") == said.count(b"\n")
        assert all(_REPLY_LINE.fullmatch(line) for line in said.split(b"\r\n")[:-1])
        assert len(said) <= _MAX_REPLY * (sent.count(b"\n") + 2), "more is said than was asked for"
        assert session.tls is None or b"STARTTLS\r\n" not in said.replace(b"Must issue a ", b"")
        outcome.said += said
        if session.message is None:
            text.clear()
            assert not session.text
        text += session.text
        session.text.clear()
        assert sum(map(len, text)) <= _MAX_SIZE, "more is kept than may come"
        if session.phase not in {Phase.WAITING, Phase.CLOSED}:
            held = session._lines.left  # pyright: ignore[reportPrivateUsage]
            assert held <= _MAX_HELD, "an endless line is kept"
            assert session.action is None
        if mode == "Required" and session.tls is None:
            assert session.message is None
            assert not session.accepted
        match session.action:
            case None:
                if not session.more:
                    return
                assert session._lines.left  # pyright: ignore[reportPrivateUsage]
                session.go_on()
            case Close():
                outcome.events.append("close")
                assert session.phase is Phase.CLOSED
                return
            case StartTLS():
                outcome.events.append("tls")
                assert session.tls is None
                assert said.endswith(replies.READY_FOR_TLS.wire)
                session.tls_started(_TLS)
                _forgot_everything(session)
            case Ask():
                outcome.events.append(session.action.address)
                session.known(None if len(session.action.address) % 2 else replies.RECIPIENT_REJECTED)
            case Store():
                outcome.bodies.append(b"".join(text))
                outcome.events.append(_stored(session.action, outcome.bodies[-1], session))
                text.clear()
                session.stored(replies.queued(len(outcome.events)))


def _forgot_everything(session: Session) -> None:
    """RFC 3207 section 4.2: as if nothing had been said, nor been sent."""
    assert session.phase is Phase.NEW
    assert not session._lines.left  # pyright: ignore[reportPrivateUsage]
    session.feed(b"MAIL FROM:<>\r\n")
    # Errors are not forgotten: this one may be the last that is borne with.
    assert session.out.pop(0) == replies.HELLO_FIRST.wire
    assert session.out in ([], [replies.TOO_MANY_ERRORS.wire])
    session.out.clear()


def _stored(action: Store, body: bytes, session: Session) -> tuple[object, ...]:
    message = action.message
    assert body.count(b"\r\n") == body.count(b"\r") == body.count(b"\n")
    assert b"\0" not in body
    assert not body or body.endswith(b"\r\n")
    assert action.ascii == body.isascii()
    assert len(body) <= _MAX_SIZE
    hops = trace.HopCount()
    hops.feed(body)
    assert hops.count <= _MAX_HOPS
    assert 0 < len(message.recipients) <= _MAX_RECIPIENTS
    assert all(one.address.lower().endswith("@here.example") for one in message.recipients)
    assert message.protocol.endswith("S") == (session.tls is not None)
    return (message.sender, tuple(one.address for one in message.recipients), message.hello, body)


def check(script: Script) -> None:
    """Play a script as it is, with each group in one piece, and octet by octet.

    No rule is broken, and what comes of it does not depend on the cuts.
    """
    mode, groups = script
    whole = run(mode, [[b"".join(group)] for group in groups])
    everything = b"".join(b"".join(group) for group in groups)
    unstuffed = _STUFFED.sub(b"\r\n", b"\r\n" + everything)
    for body in whole.bodies:
        assert b"\r\n" + body + b".\r\n" in unstuffed, "what is stored was not sent"
    ends = len(_END.findall(b"\r\n" + everything))
    assert len(whole.bodies) + whole.refused <= ends, "a text ended without its end"
    ways = [groups, [[bytes([octet]) for octet in b"".join(group)] for group in groups]]
    for way in ways:
        cut = run(mode, way)
        if not whole.injected:
            assert (cut.said, cut.events) == (whole.said, whole.events), "the cuts count"


# What clients send

_LINES: Final = (
    b"EHLO x", b"HELO y", b"ehlo [192.0.2.1]", b"EHLO", b"EHLO \xc3\xbc", b"MAIL FROM:<>", b"MAIL FROM:<a@b.example>",
    b"mail from: <a@b.example> size=5 BODY=8BITMIME", b"MAIL FROM:<a@b.example> SIZE=999999999999",
    b"MAIL FROM:<\xc3\xbc@b.example> SMTPUTF8 RET=HDRS ENVID=aB", b"MAIL FROM:<a@b.example> XYZ=1",
    b"RCPT TO:<u@here.example>", b"RCPT TO:<u>", b"RCPT TO:<postmaster>", b"RCPT TO:<u@elsewhere.example>",
    b"RCPT TO:<u%elsewhere.example@here.example>", b"RCPT TO:<@a.example:u@here.example> NOTIFY=NEVER ORCPT=rfc822;U",
    b'RCPT TO:<"u\\"x"@here.example>', b"RCPT TO:<u@here.example> NOTIFY=NEVER,DELAY", b"DATA", b"DATA x", b"STARTTLS",
    b"STARTTLS x", b"RSET", b"NOOP", b"NOOP x", b"VRFY u", b"HELP", b"QUIT", b"BDAT 5 LAST", b"AUTH PLAIN", b"XYZZY",
    b"",
    b" ", b".", b"..", b"...x", b"Subject: x", b"Received: x", b"received: y", b"text", b"\xff\xfe", b"x" * 90,
    b"x" * 2100,
)  # fmt: skip
_ENDS: Final = (
    *(b"\r\n",) * 12, b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\0\r\n", b"", b"\r\n.\r\n", b"\n.\n", b"\r\n.\n",
    b"\n.\r\n",
)  # fmt: skip
_TO_DATA: Final = (
    b"EHLO x\r\n",
    b"MAIL FROM:<a@b.example>\r\n",
    b"RCPT TO:<u@here.example>\r\n",
    b"DATA\r\n",
)

_line: Final = st.tuples(st.sampled_from(_LINES), st.sampled_from(_ENDS)).map(b"".join)
_group: Final = st.lists(st.one_of(_line, _line, _line, st.binary(max_size=30)), max_size=6)
_way_in: Final = st.sampled_from(
    [[], [[_TO_DATA[0]]], [[b"STARTTLS\r\n"], [_TO_DATA[0]]], [[one] for one in _TO_DATA],
     [[b"EHLO x\r\n"], [b"STARTTLS\r\n"], *([one] for one in _TO_DATA)], [[_TO_DATA[0]], list(_TO_DATA[1:])]]
)  # fmt: skip


def _script(mode: str, way: list[list[bytes]], groups: list[list[bytes]]) -> Script:
    return mode, [*way, *groups]


scripts: Final[st.SearchStrategy[Script]] = st.builds(
    _script,
    st.sampled_from(["No", "Preferred", "Required", "Preferred" + _ASKING]),
    _way_in,
    st.lists(_group, max_size=7),
)


def kept() -> list[Path]:
    """The corpus."""
    return sorted(CORPUS.glob("*.json"))


def read(path: Path) -> Script:
    """A script of the corpus."""
    stored = json.loads(path.read_text())
    return stored["mode"], [[piece.encode("latin-1") for piece in group] for group in stored["groups"]]


def keep(script: Script, why: str) -> Path:
    """Write a script into the corpus."""
    mode, groups = script
    text = [[piece.decode("latin-1") for piece in group] for group in groups]
    content = json.dumps({"why": why, "mode": mode, "groups": text}, indent=1) + "\n"
    path = CORPUS / f"{sha256(content.encode()).hexdigest()[:12]}.json"
    path.write_text(content)
    return path


def _fuzz(seconds: float) -> int:
    """Look for a script that breaks a rule; the exit status."""
    deadline = time.monotonic() + seconds
    tried = 0
    failing: list[Script] = []

    @settings(
        max_examples=2000,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=False,
    )
    @given(scripts)
    def one_round(script: Script) -> None:
        nonlocal tried
        tried += 1
        try:
            check(script)
        except Exception:
            failing.append(script)
            raise

    while time.monotonic() < deadline:
        try:
            one_round()
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is what we are looking for
            # Hypothesis ends with the smallest case.
            print(f"after {tried} scripts: {type(problem).__name__}: {problem}")
            print(f"kept as {keep(failing[-1], f'{type(problem).__name__}: {problem}'.splitlines()[0])}")
            return 1
    print(f"{tried} scripts, no rule broken")
    return 0


if __name__ == "__main__":
    sys.exit(_fuzz(float(sys.argv[1])))
