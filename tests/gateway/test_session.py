"""The SMTP session and the pure parts around it: octets in, replies and actions out."""

import contextlib
import ipaddress
import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterlock_api.snapshot import AccessGroup, ReceptionPolicy, RecipientRule
from letterlock_gateway import line_ends
from letterlock_gateway.deliver.envelopes import Stuffing
from letterlock_gateway.receive import commands, data, limits, orders, paths, proxy, replies, trace
from letterlock_gateway.receive.access import AccessTable, Match, NamesNeeded, client_address
from letterlock_gateway.receive.actions import Close, StartTLS, Store
from letterlock_gateway.receive.dialogue import MAX_ERRORS
from letterlock_gateway.receive.limits import Limits, Quota
from letterlock_gateway.receive.lines import MAX_LINE
from letterlock_gateway.receive.orders import Phase
from letterlock_gateway.receive.paths import Path
from letterlock_gateway.receive.recipients import Recipients
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.session import (
    MAX_BEYOND,
    MAX_IDLE_COMMANDS,
    MAX_REJECTED,
    Session,
)
from letterlock_gateway.receive.terms import compile_terms
from letterlock_gateway.receive.trace import TLSDetails
from letterlock_gateway.spool import NewRecipient

TLS = TLSDetails("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
RULES = [
    RecipientRule(match=["refused@here.example"], accept=False, text="Not this one"),
    RecipientRule(match=["here.example", ".below.example", "abuse@"], accept=True),
]


def session(
    *,
    tls: TLSDetails | None = None,
    greet: bool = True,
    clock: float = 0,
    query: str = "",
    **policy: object,
) -> Session:
    settings: dict[str, object] = {"name": "p", "behavior": "Accept", "tls_mode": "Preferred"}
    terms = compile_terms(
        ReceptionPolicy.model_validate(settings | policy),
        hostname="mx.here.example",
        recipients=Recipients(RULES, default_domain="here.example", postmaster="pm@here.example"),
        context=CONTEXT,
        query=query,
    )
    made = Session(terms, Quota(Limits(lambda: clock), "192.0.2.1"), tls=tls)
    if greet:
        made.greet()
        said(made)
    return made


def said(one: Session) -> str:
    """What the session has said since the last call, to the end of what it has at hand."""
    while one.more:
        one.go_on()
    text = b"".join(one.out).decode()
    one.out.clear()
    return text


def ask(one: Session, *lines: str) -> str:
    one.feed("".join(f"{line}\r\n" for line in lines).encode())
    return said(one)


def codes(text: str) -> list[int]:
    return [int(line[:3]) for line in text.splitlines() if line[3:4] == " "]


def to_data(one: Session) -> None:
    answer = ask(one, "EHLO client.example")
    assert codes(answer) == [250]
    assert codes(ask(one, "MAIL FROM:<a@b.example>", "RCPT TO:<u@here.example>", "DATA")) == [250, 250, 354]


def text_of(one: Session) -> bytes:
    """The text of the message that is to be stored."""
    assert isinstance(one.action, Store)
    return b"".join(one.text)


def store_of(one: Session) -> Store:
    assert isinstance(one.action, Store)
    return one.action


# Replies


def all_replies() -> list[tuple[str, Reply]]:
    return [(name, value) for name, value in vars(replies).items() if isinstance(value, Reply)]


@pytest.mark.parametrize(("name", "reply"), all_replies(), ids=[name for name, _ in all_replies()])
def test_every_reply_has_an_enhanced_code_of_its_class(name: str, reply: Reply):
    if reply.code == 354:
        assert reply.enhanced == ""
        return
    kind, subject, detail = reply.enhanced.split(".")
    assert kind == str(reply.code)[0]
    assert subject.isdigit()
    assert detail.isdigit()
    assert reply.wire == f"{reply.code} {reply.enhanced} {reply.text}\r\n".encode()
    assert reply.text.isascii()
    assert len(reply.wire) <= 512


def test_texts_of_administrators_cannot_break_out_of_a_reply():
    wire = replies.recipient_rejected("no\r\n250 yes\nümlaut\x00" + "x" * 999).wire
    assert wire.startswith(b"550-5.7.1 no\r\n550-5.7.1 250 yes\r\n550 5.7.1 ?mlaut?")
    assert max(len(line) for line in wire.split(b"\r\n")) <= 510


# The order of commands: every cell


COMMANDS = [
    "EHLO x",
    "HELO x",
    "MAIL FROM:<a@b.example>",
    "RCPT TO:<u@here.example>",
    "DATA",
    "RSET",
    "NOOP",
    "VRFY u",
    "HELP",
    "QUIT",
    "STARTTLS",
]
PATHS_TO_PHASES = {
    Phase.NEW: [],
    Phase.READY: ["EHLO x"],
    Phase.MAIL: ["EHLO x", "MAIL FROM:<>"],
    Phase.RCPT: ["EHLO x", "MAIL FROM:<>", "RCPT TO:<u@here.example>"],
}


@pytest.mark.parametrize("phase", orders.LISTENING)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_in_each_phase(phase: Phase, command: str):
    one = session()
    for line in PATHS_TO_PHASES[phase]:
        ask(one, line)
    assert one.phase is phase
    answer = ask(one, command)
    expected = orders.OUT_OF_ORDER.get(command.split(" ", maxsplit=1)[0], {}).get(phase)
    if expected is not None:
        assert answer == expected.wire.decode()
        assert one.phase is phase
    else:
        assert codes(answer)[0] < 400


def test_a_whole_message():
    one = session()
    to_data(one)
    one.feed(b"Subject: x\r\n\r\n..dot\r\n.\r\n")
    message = store_of(one).message
    assert text_of(one) == b"Subject: x\r\n\r\n.dot\r\n"
    assert message.sender == "a@b.example"
    assert [to.address for to in message.recipients] == ["u@here.example"]
    assert (message.hello, message.protocol) == ("client.example", "ESMTP")
    assert said(one) == ""  # no 250 before it is stored
    one.feed(b"NOOP\r\n")
    assert said(one) == ""
    one.stored(replies.queued(7))
    assert said(one) == "250 2.0.0 Ok: queued as 7\r\n250 2.0.0 Ok\r\n"
    assert codes(ask(one, "MAIL FROM:<c@d.example>")) == [250]


def test_a_pipelined_group_and_the_next_message_behind_the_text():
    one = session()
    to_data(one)
    one.feed(b"x\r\n.\r\nMAIL FROM:<c@d.example>\r\nRCPT TO:<v@here.example>\r\nDATA\r\n")
    assert text_of(one) == b"x\r\n"
    one.stored(replies.queued(1))
    assert codes(said(one)) == [250, 250, 250, 354]


def test_everything_octet_by_octet():
    one = session()
    for octet in b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<u@here.example>\r\nDATA\r\n":
        one.feed(bytes([octet]))
    assert codes(said(one)) == [250, 250, 250, 354]
    for octet in b"..\r\n.x\r\n.\r\n":
        one.feed(bytes([octet]))
    assert text_of(one) == b".\r\nx\r\n"


@pytest.mark.parametrize("reply", [replies.STORE_FAILED])
def test_a_message_that_was_not_stored_gets_no_250(reply: Reply):
    one = session()
    to_data(one)
    one.feed(b"x\r\n.\r\n")
    one.stored(reply)
    assert said(one).startswith("451 4.3.0")
    assert one.phase is Phase.READY


# TLS


def test_ehlo_offers_what_there_is_and_starttls_only_before_tls():
    assert ask(session(), "EHLO x").splitlines() == [
        "250-mx.here.example",
        "250-PIPELINING",
        "250-SIZE 26214400",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250-DSN",
        "250-STARTTLS",
        "250 ENHANCEDSTATUSCODES",
    ]
    assert "STARTTLS" not in ask(session(tls=TLS), "EHLO x")
    assert "STARTTLS" not in ask(session(tls_mode="No"), "EHLO x")
    assert codes(ask(session(tls_mode="No"), "STARTTLS")) == [502]
    assert codes(ask(session(tls=TLS), "STARTTLS")) == [503]
    assert codes(ask(session(), "STARTTLS now")) == [501]


@pytest.mark.parametrize("command", [*COMMANDS, "XYZZY", "AUTH PLAIN", "BDAT 1 LAST"])
def test_before_required_tls_only_four_commands_are_answered(command: str):
    one = session(tls_mode="Required")
    answer = ask(one, command)
    if command.split(" ", maxsplit=1)[0] in {"NOOP", "EHLO", "STARTTLS", "QUIT"}:
        assert codes(answer)[0] in {220, 221, 250}
        assert one.notes == []
    else:
        assert answer == "530 5.7.0 Must issue a STARTTLS command first\r\n"
        assert one.notes == ["TLS was required but remote host did not initiate it"]


def test_after_tls_all_that_was_said_before_is_forgotten():
    one = session()
    ask(
        one,
        "EHLO x",
    )
    ask(one, "MAIL FROM:<a@b.example>", "RCPT TO:<u@here.example>")
    assert codes(ask(one, "STARTTLS")) == [220]
    assert isinstance(one.action, StartTLS)
    one.tls_started(TLS)
    assert one.action is None
    assert codes(ask(one, "RCPT TO:<u@here.example>")) == [503]
    assert codes(ask(one, "MAIL FROM:<a@b.example>")) == [503]
    to_data(one)
    one.feed(b"x\r\n.\r\n")
    assert store_of(one).message.protocol == "ESMTPS"


@pytest.mark.parametrize("command", ["STARTTLS", "EHLO x", "HELO x"])
def test_nothing_may_follow_in_the_same_group(command: str):
    one = session()
    assert codes(ask(one, command, "RSET")) == [554]
    assert isinstance(one.action, Close)


def test_text_that_does_not_wait_for_the_354_is_refused():
    one = session()
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>", "RCPT TO:<u@here.example>")
    assert codes(ask(one, "DATA", "Subject: x", "", ".")) == [554]
    assert isinstance(one.action, Close)


def test_tls_that_is_not_good_enough_gets_one_reply_to_everything_but_quit():
    one = session(tls=TLS)
    one.tls_started(TLS, replies.CLIENT_CERTIFICATE_INVALID)
    for command in ("EHLO x", "NOOP", "MAIL FROM:<>", "XYZZY"):
        assert ask(one, command).startswith("554 5.7.0")
    assert codes(ask(one, "QUIT")) == [221]


@pytest.mark.parametrize("sender", ["ceo@a.example", "x@b.example", "x@deep.c.example"])
def test_listed_senders_must_use_tls_where_it_is_only_offered(sender: str):
    listed = ["ceo@a.example", "b.example", ".c.example"]
    one = session(required_for_senders=listed)
    ask(one, "EHLO x")
    assert codes(ask(one, "MAIL FROM:<other@a.example>", "RSET")) == [250, 250]
    assert ask(one, f"MAIL FROM:<{sender}>").startswith("530 5.7.0")
    one = session(required_for_senders=listed, tls=TLS)
    ask(one, "EHLO x")
    assert codes(ask(one, f"MAIL FROM:<{sender}>", "RSET", "MAIL FROM:<>")) == [250, 250, 250]


# Policies and limits


def test_reject_greets_with_554_and_waits_for_quit():
    one = session(behavior="Reject", reject_text="Go away", greet=False)
    one.greet()
    assert said(one) == "554 mx.here.example Go away\r\n"
    assert codes(ask(one, "EHLO x", "NOOP", "MAIL FROM:<>")) == [503, 503, 503]
    assert codes(ask(one, "QUIT")) == [221]


def test_the_banner():
    one = session(banner="Private service\nNo spam", greet=False)
    one.greet()
    assert said(one) == "220-mx.here.example Private service\r\n220 mx.here.example No spam\r\n"


def test_limits_of_a_policy():
    one = session(max_recipients_per_message=2, max_message_size=100, max_messages_per_connection=1)
    ask(one, "EHLO x")
    assert ask(one, "MAIL FROM:<> SIZE=101").startswith("552 5.3.4")
    ask(one, "MAIL FROM:<> SIZE=100")
    to = [f"RCPT TO:<u{n}@here.example>" for n in range(3)]
    assert ask(one, *to).splitlines()[-1].startswith("452 4.5.3")
    ask(one, "DATA")
    one.feed(b"x" * 99 + b"\r\n.\r\n")
    assert said(one).startswith("552 5.3.4")
    ask(one, "MAIL FROM:<>", to[0])
    ask(one, "DATA")
    one.feed(b"x" * 98 + b"\r\n.\r\n")
    assert len(text_of(one)) == 100
    one.stored(replies.queued(1))
    said(one)
    assert ask(one, "MAIL FROM:<>").startswith("421 4.7.0")
    assert isinstance(one.action, Close)


def test_recipients_per_hour_and_host():
    one = session(max_recipients_per_hour=2)
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>")
    to = [f"RCPT TO:<u{n}@here.example>" for n in range(3)]
    assert codes(ask(one, *to)) == [250, 250, 452]


def test_an_hour_later_there_is_room_again():
    now = [0.0]
    counters = Limits(lambda: now[0])
    assert [counters.take_recipient("h", 1) for _ in range(2)] == [True, False]
    assert counters.take_recipient("other", 1)
    now[0] = 3600.0
    assert counters.take_recipient("h", 1)


def test_a_clock_that_was_ahead_takes_no_hours_from_anybody():
    now = [1_900_000_000.0]
    counters = Limits(lambda: now[0])
    assert [counters.take_recipient("h", 1) for _ in range(2)] == [True, False]
    now[0] = 1_800_000_000.0
    assert [counters.take_recipient("h", 1) for _ in range(2)] == [True, False]
    now[0] += 3600.0
    assert counters.take_recipient("h", 1)


@pytest.mark.parametrize(
    ("hops", "code"), [(25, 250), (26, 554)], ids=["25 hops are taken", "26 hops are a loop"]
)
def test_loops(hops: int, code: int):
    one = session()
    to_data(one)
    one.feed(b"ReCeived: x\r\n\tby y\r\n" * hops + b"\r\nReceived: not a header\r\n.\r\n")
    if code == 250:
        assert isinstance(one.action, Store)
    else:
        assert said(one).startswith("554 5.4.6")
    assert codes(ask(one, "NOOP")) == ([250] if code == 554 else [])


def test_a_client_that_sends_rubbish_is_let_go():
    one = session()
    answer = codes(ask(one, *["XYZZY"] * (MAX_ERRORS + 5)))
    assert answer == [500] * MAX_ERRORS + [421]
    assert isinstance(one.action, Close)


@pytest.mark.parametrize(
    "line",
    [b"NOOP\n", b"NO\rOP\r\n", b"NOOP\0\r\n", b"NOOP \xff\r\n", b"NOOP " + b"x" * MAX_LINE + b"\r\n"],
)
def test_bad_lines_are_one_error_each(line: bytes):
    one = session()
    one.feed(line + b"NOOP\r\n")
    assert codes(said(one)) == [500, 250]


def test_an_endless_line_is_not_kept():
    one = session()
    for _ in range(100):
        one.feed(b"x" * 10_000)
    assert one._lines.left < 20_000  # pyright: ignore[reportPrivateUsage]
    one.feed(b"\r\nNOOP\r\n")
    assert codes(said(one)) == [500, 250]


def test_a_stopping_session_ends_when_its_message_has():
    one = session()
    to_data(one)
    one.stop()
    assert said(one) == ""
    one.feed(b"x\r\n.\r\n")
    one.stored(replies.queued(1))
    assert codes(said(one)) == [250, 421]
    assert isinstance(one.action, Close)
    idle = session()
    idle.stop()
    assert codes(said(idle)) == [421]


def test_a_long_group_is_answered_only_so_far():
    one = session()
    one.feed(b"NOOP\r\n" * 200_000)
    answered = codes(said(one))
    assert answered == [250] * MAX_IDLE_COMMANDS + [450] * MAX_ERRORS + [421]
    assert isinstance(one.action, Close)


@pytest.mark.parametrize("command", ["NOOP", "RSET", "VRFY u", "HELP", "EHLO x", "HELO x"])
def test_commands_that_lead_nowhere_end_some_time_and_a_message_starts_the_count_anew(command: str):
    one = session()
    for _ in range(MAX_IDLE_COMMANDS - 1):
        assert codes(ask(one, command))[0] < 300
    to_data(one)
    one.feed(b"x\r\n.\r\n")
    one.stored(replies.queued(1))
    said(one)
    for _ in range(MAX_IDLE_COMMANDS):
        assert codes(ask(one, command))[0] < 300
    for _ in range(MAX_ERRORS):
        assert ask(one, command).startswith("450 4.7.0")
    assert isinstance(one.action, Close)


def test_who_tries_names_is_let_go():
    one = session()
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>")
    answered = codes(ask(one, *[f"RCPT TO:<u{n}@elsewhere.example>" for n in range(MAX_REJECTED + 5)]))
    assert answered == [550] * MAX_REJECTED + [421]
    assert isinstance(one.action, Close)


def test_who_asks_for_more_recipients_than_a_message_may_have_sends_to_those_that_were_taken():
    """RFC 5321 section 4.5.3.1.10: the 452s are no reason to end the session with what has been accepted."""
    one = session(max_recipients_per_message=100)
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>")
    answered = codes(ask(one, *[f"RCPT TO:<u{n}@here.example>" for n in range(350)]))
    assert answered == [250] * 100 + [452] * 250
    assert codes(ask(one, "DATA")) == [354]
    assert codes(ask(one, ".")) == []
    assert len(store_of(one).message.recipients) == 100


def test_not_even_those_who_only_ask_for_too_much_stay_for_ever():
    one = session(max_recipients_per_message=1)
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>", "RCPT TO:<u@here.example>")
    for _ in range(MAX_BEYOND + MAX_REJECTED - 1):
        assert codes(ask(one, "RCPT TO:<u@here.example>")) == [452]
    assert codes(ask(one, "RCPT TO:<u@here.example>")) == [452, 421]


def test_a_message_that_is_too_big_is_read_to_its_end_but_not_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data, "MAX_UNWANTED", 10_000)
    one = session(max_message_size=100)
    to_data(one)
    one.feed(b"x" * 10_100)
    assert said(one) == ""
    assert (one.message, one.text) == (None, [])
    one.feed(b"x" * 10)
    assert said(one) == replies.MESSAGE_TOO_BIG.wire.decode()
    assert isinstance(one.action, Close)


def test_when_too_much_is_coming_in_already_data_has_to_wait(monkeypatch: pytest.MonkeyPatch):
    one = session()
    monkeypatch.setattr(limits, "MAX_BUFFERED", 0)
    ask(one, "EHLO x")
    assert (
        ask(one, "MAIL FROM:<>", "RCPT TO:<u@here.example>", "DATA").splitlines()[-1].startswith("452 4.3.1")
    )
    assert one.phase is Phase.RCPT


def test_utf8_addresses_need_the_parameter():
    one = session()
    ask(one, "EHLO x")
    assert ask(one, "MAIL FROM:<ü@b.example>").startswith("553 5.6.7")
    ask(one, "MAIL FROM:<a@b.example>")
    assert ask(one, "RCPT TO:<ü@here.example>").startswith("553 5.6.7")
    ask(one, "RSET")
    to = "RCPT TO:<ü@here.example> NOTIFY=DELAY ORCPT=utf-8;ü@Here.example"
    assert codes(ask(one, "MAIL FROM:<ü@bücher.example> SMTPUTF8 BODY=8BITMIME ENVID=aB", to)) == [250, 250]
    ask(one, "DATA")
    one.feed("Subject: ü\r\n.\r\n".encode())
    action = store_of(one)
    message = action.message
    assert not action.ascii
    assert message.sender == "ü@bücher.example"
    assert message.recipients == (NewRecipient("ü@here.example", "DELAY", "utf-8;ü@Here.example"),)
    assert (message.mail.envid, message.mail.body_8bit, message.protocol) == ("aB", True, "UTF8SMTP")


# Text


SMUGGLING = [
    b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r",
    b"\r\n\0.\r\n", b"\r\n.\0\r\n",
]  # fmt: skip


@pytest.mark.parametrize("ending", SMUGGLING, ids=repr)
@pytest.mark.parametrize("split", [False, True], ids=["in one piece", "octet by octet"])
def test_no_malformed_ending_ends_a_message_or_is_passed_on(ending: bytes, split: bool):
    one = session()
    to_data(one)
    text = (
        b"Subject: x\r\n\r\nfirst"
        + ending
        + b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<u@here.example>\r\nDATA\r\n"
    )
    for piece in [bytes([octet]) for octet in text] if split else [text]:
        one.feed(piece)
    assert one.phase is Phase.DATA
    assert said(one) == ""
    one.feed(b"\r\n.\r\n")
    assert said(one) == replies.MALFORMED_MESSAGE.wire.decode()
    assert one.action is None
    assert codes(ask(one, "NOOP")) == [250]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    line = st.text(alphabet=st.sampled_from(list(".ab \t")), max_size=6)
    return "".join(f"{one}\r\n" for one in draw(st.lists(line, max_size=8))).encode()


@given(messages(), st.lists(st.integers(1, 7), max_size=30), messages())
def test_stuffed_text_comes_out_as_it_went_in(text: bytes, cuts: list[int], rest: bytes):
    stuffed = (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n" + rest
    incoming = data.Incoming(10_000, 25)
    found = None
    while stuffed:
        size = cuts.pop() if cuts else len(stuffed)
        piece, stuffed = stuffed[:size], stuffed[size:]
        found = incoming.feed(piece)
        if found is not None:
            break
    assert incoming.refusal is None
    assert b"".join(incoming.pieces) == text
    assert incoming.size == len(text)
    assert (found or b"") + stuffed == rest


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_random_octets_never_break_a_session(pieces: list[bytes]):
    one = session()
    ask(one, "EHLO x")
    for piece in pieces:
        one.feed(piece)
    for line in said(one).splitlines():
        assert 200 <= int(line[:3]) < 600


_WORDS = [
    "EHLO x",
    "MAIL FROM:<a@b.example>",
    "RCPT TO:<u@here.example>",
    "DATA",
    ".",
    "STARTTLS",
    "RSET",
    "QUIT",
    "NOOP",
    "text",
    "..",
    "RCPT TO:<u@elsewhere.example>",
    "",
    "HELO y",
]


@given(st.lists(st.sampled_from(_WORDS), max_size=25), st.booleans())
def test_no_sequence_of_commands_stores_in_clear_where_tls_is_required(words: list[str], grouped: bool):
    one = session(tls_mode="Required")
    for piece in ["\r\n".join(words) + "\r\n"] if grouped else [f"{word}\r\n" for word in words]:
        one.feed(piece.encode())
        assert not isinstance(one.action, Store)
        if isinstance(one.action, StartTLS):
            return


# Arguments


@pytest.mark.parametrize(
    ("text", "path", "rest"),
    [
        ("<>", Path("", ""), ""),
        ("<a@b.example>", Path("a", "b.example"), ""),
        ("<a.b+c@b.example> SIZE=1", Path("a.b+c", "b.example"), " SIZE=1"),
        ("<postmaster>", Path("postmaster", ""), ""),
        ('<"a b"@c.example>', Path("a b", "c.example"), ""),
        (r'<"a\"\\b"@c.example>', Path('a"\\b', "c.example"), ""),
        ("<@x.example,@y.example:a@b.example>", Path("a", "b.example"), ""),
        ("<ü@bücher.example>", Path("ü", "bücher.example"), ""),
        ("<a@[192.0.2.1]>", Path("a", "[192.0.2.1]"), ""),
        ("<a@[IPv6:2001:db8::1]>", Path("a", "[IPv6:2001:db8::1]"), ""),
        ("<a_b@under_score.example>", Path("a_b", "under_score.example"), ""),
    ],
)
def test_valid_paths(text: str, path: Path, rest: str):
    assert paths.parse(text) == (path, rest)


@pytest.mark.parametrize(
    "text",
    [
        "", "a@b.example", "<a@b.example", "a@b.example>", "<a b@c.example>", "<@b.example>", "<a@>",
        "<a@b..example>", "<.a@b.example>", "<a.@b.example>", "<a@-b.example>", "<a@b-.example>",
        "<a@b.example.>", '<"a@b.example>', '<""@b.example>', "<a@@b.example>", "<a@[192.0.2.256]>",
        "<a@[x]>", "<a@b.example\x01>", "<a\x7f@b.example>", "<" + "a" * 320 + "@b.example>",
        "<a@" + "b" * 64 + ".example>", "<<a@b.example>>", "<@x.example:>",
    ],
)  # fmt: skip
def test_invalid_paths(text: str):
    found = paths.parse(text)
    assert found is None


@given(st.text(max_size=40))
def test_any_local_part_survives_a_round_trip(local: str):
    written = Path(local, "b.example").address
    found = paths.parse(f"<{written}>")
    if found is not None:
        assert found == (Path(local, "b.example"), "")


@given(st.text(max_size=60))
def test_parsers_never_fail(text: str):
    paths.parse(text)
    for parse in (commands.mail, commands.rcpt, commands.hello):
        parse(text)
        parse("FROM:<a@b.example> " + text)
        parse("TO:<a@b.example> " + text)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<>", commands.Mail(Path("", ""))),
        (
            "from: <a@b.example> size=5 Body=8bitmime",
            commands.Mail(Path("a", "b.example"), 5, body_8bit=True),
        ),
        (
            "FROM:<a@b.example> SMTPUTF8 RET=hdrs ENVID=QQ+2B314159aB",
            commands.Mail(Path("a", "b.example"), smtputf8=True, ret="HDRS", envid="QQ+2B314159aB"),
        ),
        ("FROM:<a@b.example> SIZE=x", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> SIZE", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> SIZE=1 SIZE=2", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> BODY=BINARYMIME", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> SMTPUTF8=1", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> ENVID=+2", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> ENVID=+2b", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> ENVID", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> ENVID=" + "x" * 101, replies.BAD_PARAMETER),
        ("FROM:<a@b.example> ENVID=1 envid=2", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> RET=ALL", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> RET", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> RET=FULL RET=HDRS", replies.BAD_PARAMETER),
        ("FROM:<a@b.example> NOTIFY=NEVER", replies.UNKNOWN_PARAMETER),
        ("FROM:<a@b.example> XYZZY=1", replies.UNKNOWN_PARAMETER),
        ("FROM:<a@b.example> AUTH=<>", replies.UNKNOWN_PARAMETER),
        ("FROM:<a@b.example>SIZE=1", replies.BAD_SENDER),
        ("FROM:<foo bar>", replies.BAD_SENDER),
        ("TO:<a@b.example>", replies.MAIL_SYNTAX),
        ("", replies.MAIL_SYNTAX),
    ],
)
def test_mail(argument: str, expected: object):
    assert commands.mail(argument) == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("TO:<a@b.example>", commands.Rcpt(Path("a", "b.example"))),
        (
            "TO:<a@b.example> NOTIFY=SUCCESS,delay ORCPT=rfc822;Bob+40B@B.Example",
            commands.Rcpt(Path("a", "b.example"), "SUCCESS,DELAY", "rfc822;Bob+40B@B.Example"),
        ),
        ("TO:<a@b.example> NOTIFY=NEVER", commands.Rcpt(Path("a", "b.example"), "NEVER")),
        ("TO:<a@b.example> NOTIFY=NEVER,DELAY", replies.BAD_PARAMETER),
        ("TO:<a@b.example> NOTIFY=DELAY,DELAY", replies.BAD_PARAMETER),
        ("TO:<a@b.example> NOTIFY=SUCCESS,NEVER", replies.BAD_PARAMETER),
        ("TO:<a@b.example> NOTIFY=SOMETIMES", replies.BAD_PARAMETER),
        ("TO:<a@b.example> NOTIFY=", replies.BAD_PARAMETER),
        ("TO:<a@b.example> NOTIFY=SUCCESS,", replies.BAD_PARAMETER),
        ("TO:<a@b.example> NOTIFY=SUCCESS NOTIFY=DELAY", replies.BAD_PARAMETER),
        ("TO:<a@b.example> ORCPT=x", replies.BAD_PARAMETER),
        ("TO:<a@b.example> ORCPT=rfc822;", replies.BAD_PARAMETER),
        ("TO:<a@b.example> ORCPT=;x@b.example", replies.BAD_PARAMETER),
        ("TO:<a@b.example> ORCPT=rfc822;a+2bb@b.example", replies.BAD_PARAMETER),
        ("TO:<a@b.example> ORCPT=rfc822;" + "x" * 500, replies.BAD_PARAMETER),
        ("TO:<a@b.example> RET=FULL", replies.UNKNOWN_PARAMETER),
        ("TO:<a@b.example> SIZE=1", replies.UNKNOWN_PARAMETER),
        ("TO:<>", replies.BAD_RECIPIENT),
        ("TO:<foo bar>", replies.BAD_RECIPIENT),
        ("FROM:<a@b.example>", replies.RCPT_SYNTAX),
    ],
)
def test_rcpt(argument: str, expected: object):
    assert commands.rcpt(argument) == expected


# Recipients


@pytest.mark.parametrize(
    ("to", "relay", "expected"),
    [
        ("u@here.example", False, "u@here.example"),
        ("u@HERE.Example", False, "u@HERE.Example"),
        ("u", False, "u@here.example"),
        ("postmaster", False, "pm@here.example"),
        ("POSTMASTER", False, "pm@here.example"),
        ("u@deep.below.example", False, "u@deep.below.example"),
        ("u@below.example", False, replies.RELAYING_DENIED),
        ("abuse@anywhere.example", False, "abuse@anywhere.example"),
        ("u@elsewhere.example", False, replies.RELAYING_DENIED),
        ("u@elsewhere.example", True, "u@elsewhere.example"),
        ("u@nothere.example", False, replies.RELAYING_DENIED),
        ("u@sub.here.example", False, replies.RELAYING_DENIED),
        ("u%elsewhere.example@here.example", False, replies.ROUTED_ADDRESS),
        ("elsewhere.example!u@here.example", False, replies.ROUTED_ADDRESS),
        ('"u@elsewhere.example"@here.example', False, replies.ROUTED_ADDRESS),
        ("@here.example:u@elsewhere.example", False, replies.RELAYING_DENIED),
        ("u@old.example", False, "u@here.example"),
        ("u@x.old.example", False, "u@here.example"),
        ("u@[192.0.2.1]", False, replies.RELAYING_DENIED),
    ],
)
def test_recipients(to: str, relay: bool, expected: str | Reply):
    table = Recipients(
        RULES,
        default_domain="here.example",
        domain_map={"old.example": "here.example", ".old.example": "here.example"},
        postmaster="pm@here.example",
    )
    found = paths.parse(f"<{to}>")
    assert found is not None
    assert table.resolve(found[0], relay=relay) == expected


def test_a_rejected_recipient_gets_the_words_of_its_row_and_goes_to_the_log():
    one = session()
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>")
    assert ask(one, "RCPT TO:<Refused@here.example>") == "550 5.7.1 Not this one\r\n"
    assert one.notes == ["To: <Refused@here.example> rejected: Not this one"]
    assert one.accepted == 0


def test_without_a_default_domain_bare_addresses_are_refused():
    table = Recipients([RecipientRule(match=["u@"], accept=True)], postmaster="pm@here.example")
    assert table.resolve(Path("u", ""), relay=True) is replies.RECIPIENT_NEEDS_DOMAIN


def test_without_a_table_nothing_is_taken():
    table = Recipients([], postmaster="pm@here.example")
    assert table.resolve(Path("u", "here.example"), relay=False) is replies.RELAYING_DENIED


# Host access


def table(*senders: list[str]) -> AccessTable:
    groups = [AccessGroup(name=f"g{n}", senders=one, policy=f"p{n}") for n, one in enumerate(senders)]
    return AccessTable(groups)


@pytest.mark.parametrize(
    ("sender", "yes", "no"),
    [
        ("192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1"], ["192.0.2.2", "::c000:201"]),
        ("192.0.2.0/25", ["192.0.2.0", "192.0.2.127"], ["192.0.2.128", "192.0.1.255"]),
        ("192.0.2.7/25", ["192.0.2.0"], ["192.0.2.128"]),
        ("192.0.2.5-192.0.2.9", ["192.0.2.5", "192.0.2.9"], ["192.0.2.4", "192.0.2.10"]),
        ("10.1.", ["10.1.0.0", "10.1.255.255"], ["10.2.0.0", "10.0.255.255", "101.1.1.1"]),
        ("10.1.2", ["10.1.2.0"], ["10.1.20.0"]),
        ("2001:db8::/32", ["2001:db8:1::1"], ["2001:db9::1", "32.1.13.184"]),
        ("2001:db8::1-2001:db8::9", ["2001:db8::5"], ["2001:db8::a"]),
        ("::1", ["::1"], ["0.0.0.1"]),
        ("ALL", ["192.0.2.1", "2001:db8::1"], []),
    ],
)
def test_addresses(sender: str, yes: list[str], no: list[str]):
    one = table([sender])
    for text in yes:
        assert one.match(client_address(text), []) == Match("g0", "p0", sender)
    for text in no:
        assert one.match(client_address(text), []) is None


def test_the_first_group_wins_and_the_entry_that_matched_is_named():
    one = table(["192.0.2.9", "192.0.2.0/24"], ["192.0.2.1"], ["ALL"])
    assert one.match(client_address("192.0.2.1"), None) == Match("g0", "p0", "192.0.2.0/24")
    assert one.match(client_address("198.51.100.1"), None) == Match("g2", "p2", "ALL")


def test_names_are_asked_for_only_where_they_decide():
    one = table(["192.0.2.1"], ["mail-1.example", ".trusted.example"], ["ALL"])
    assert one.match(client_address("192.0.2.1"), None) == Match("g0", "p0", "192.0.2.1")
    with pytest.raises(NamesNeeded):
        one.match(client_address("192.0.2.2"), None)
    other = client_address("192.0.2.2")
    assert one.match(other, []) == Match("g2", "p2", "ALL")
    assert one.match(other, ["mail-1.example"]) == Match("g1", "p1", "mail-1.example")
    assert one.match(other, ["a.b.trusted.example"]) == Match("g1", "p1", ".trusted.example")
    assert one.match(other, ["trusted.example", "x-mail-1.example", "nottrusted.example"]) == Match(
        "g2", "p2", "ALL"
    )


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=8), st.integers(0, 60))
def test_ranges_agree_with_a_simple_model(spans: list[tuple[int, int]], number: int):
    base = int(ipaddress.ip_address("192.0.2.0"))
    senders = [
        f"{ipaddress.ip_address(base + low)}-{ipaddress.ip_address(base + low + more)}" for low, more in spans
    ]
    found = table(senders).match(ipaddress.ip_address(base + number), []) if senders else None
    assert (found is not None) == any(low <= number <= low + more for low, more in spans)


# Trace, PROXY protocol


def test_the_trace_header():
    header = trace.received(
        hello="client.example(x)",
        host="real.example",
        address="2001:db8::1",
        hostname="mx.here.example",
        protocol="ESMTPS",
        mid=7000,
        tls=TLS,
        recipient="u@here.example",
        now=1764041033.5,
    )
    assert header.decode().split("\r\n\t") == [
        "Received: from client.example?x? (real.example [IPv6:2001:db8::1])",
        "(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))",
        "by mx.here.example with ESMTPS id 7000",
        "for <u@here.example>;",
        "Tue, 25 Nov 2025 03:23:53 +0000\r\n",
    ]
    for size in (1, 5, 1000):
        counting = trace.HopCount()
        message = header + header + b"X: y\r\n\r\n" + header
        for start in range(0, len(message), size):
            counting.feed(message[start : start + size])
        assert counting.count == 2


@pytest.mark.parametrize(
    ("extended", "tls", "smtputf8", "name"),
    [
        (False, False, False, "SMTP"),
        (True, False, False, "ESMTP"),
        (True, True, False, "ESMTPS"),
        (True, False, True, "UTF8SMTP"),
        (True, True, True, "UTF8SMTPS"),
    ],
)
def test_with_clause(extended: bool, tls: bool, smtputf8: bool, name: str):
    assert trace.with_protocol(extended=extended, tls=tls, smtputf8=smtputf8) == name


_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_IPV4 = bytes([192, 0, 2, 1, 10, 0, 0, 1, 0, 99, 0, 25])


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 25\r\n", "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 25\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ff:: x y\r\n", None),
        (_V2 + b"\x21\x11" + struct.pack("!H", 12) + _IPV4, "192.0.2.1"),
        (_V2 + b"\x21\x11" + struct.pack("!H", 15) + _IPV4 + b"\x04\0\0", "192.0.2.1"),
        (_V2 + b"\x20\x00" + struct.pack("!H", 0), None),
    ],
)
def test_proxy_headers(header: bytes, client: str | None):
    expected = proxy.Header(ipaddress.ip_address(client) if client else None, b"EHLO x\r\n")
    assert proxy.read(header + b"EHLO x\r\n") == expected
    for length in range(len(header)):
        assert proxy.read(header[:length]) is None


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO x\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 25\r\n",
        b"PROXY " + b"x" * 200,
        _V2 + b"\x31\x11\0\x0c" + _IPV4,
        _V2 + b"\x21\x11\0\x04\0\0\0\0",
        _V2 + b"\x21\x12\0\x0c" + _IPV4,
        _V2 + b"\x21\x11\xff\xff",
    ],
)
def test_bad_proxy_headers(header: bytes):
    with pytest.raises(proxy.BadHeader):
        proxy.read(header)


@given(st.binary(max_size=80), st.booleans())
def test_random_proxy_headers_never_break_it(tail: bytes, binary: bool):
    with contextlib.suppress(proxy.BadHeader):
        proxy.read((_V2 if binary else b"PROXY ") + tail)


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"\xff", b"\0", b".", b"\x0b\x0c\x85"])).map(
        b"".join
    )
)
def test_line_ends_are_judged_as_counting_them_would(octets: bytes):
    by_counting = octets.count(b"\r\n") == octets.count(b"\r") == octets.count(b"\n")
    assert line_ends.all_are_crlf(octets) == by_counting


@given(messages(), st.lists(st.integers(1, 7), max_size=30))
def test_a_text_is_plain_where_it_goes_out_as_it_is(text: bytes, cuts: list[int]):
    stuffed = (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    incoming = data.Incoming(10_000, 25)
    rest = stuffed
    while rest:
        size = cuts.pop() if cuts else len(rest)
        incoming.feed(rest[:size])
        rest = rest[size:]
    stuffing, plain = Stuffing(), Stuffing(plain=True)
    assert stuffing.feed(text) + stuffing.end() == stuffed
    assert incoming.plain == (b"\r\n." not in b"\r\n" + text)
    if incoming.plain:
        assert (plain.feed(text) if text else b"") + plain.end() == stuffed
