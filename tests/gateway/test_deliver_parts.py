"""The pure parts of delivery: retry schedule, next hops, replies, envelopes, lanes, rates, bounces."""

import email
import email.policy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterlock_api.snapshot import NextHop, RetrySchedule
from letterlock_gateway.counters import Tally
from letterlock_gateway.deliver import bounces, envelopes, nexthops, replies, retry
from letterlock_gateway.deliver.envelopes import Envelope, Refused, Stuffing
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.lanes import MAX_RECIPIENTS, Lane, Lanes
from letterlock_gateway.deliver.nexthops import Ourselves, Undeliverable
from letterlock_gateway.deliver.outcomes_table import Event
from letterlock_gateway.deliver.rates import Rates
from letterlock_gateway.deliver.replies import MalformedReply, ReplyParser
from letterlock_gateway.receive.data import Incoming
from letterlock_gateway.spool import Content, Queued

QUEUED = Queued(
    rid=1,
    mid=1,
    address="b@mailbox.example",
    domain="mailbox.example",
    sender="a@sender.example",
    attempts=0,
    queued_at=0.0,
    next_attempt=0.0,
    smtputf8=False,
    body_8bit=False,
    notify="",
    orcpt="",
    ret="",
    envid="",
    size=10,
    received_protocol=None,
)


def queued(**changes: Any) -> Queued:
    return replace(QUEUED, **changes)


# Retry


def waits(count: int, schedule: RetrySchedule | None = None, jitter: float = 0) -> list[float]:
    found: list[float] = []
    now = 0.0
    for attempts in range(1, count + 1):
        at = retry.next_attempt(
            schedule or RetrySchedule(), attempts=attempts, queued_at=0.0, now=now, jitter=jitter
        )
        assert at is not None
        found.append(at - now)
        now = at
    return found


def test_waits_double_up_to_the_maximum() -> None:
    assert waits(8) == [60, 120, 240, 480, 960, 1920, 3600, 3600]


@pytest.mark.parametrize(("jitter", "first"), [(-1, 54), (1, 66)])
def test_jitter_moves_a_wait_by_a_tenth(jitter: float, first: float) -> None:
    assert waits(1, jitter=jitter) == [pytest.approx(first)]


def test_the_last_attempt_falls_on_the_end_of_the_time() -> None:
    schedule = RetrySchedule(initial=60, give_up_after=100)
    assert waits(2, schedule) == [60, 40]
    assert retry.next_attempt(schedule, attempts=3, queued_at=0, now=100, jitter=0) is None


def test_attempts_are_limited() -> None:
    schedule = RetrySchedule(attempts=2)
    assert retry.next_attempt(schedule, attempts=1, queued_at=0, now=0, jitter=0)
    assert retry.next_attempt(schedule, attempts=2, queued_at=0, now=0, jitter=0) is None


@given(st.integers(1, 10**6), st.floats(0, 10**9), st.floats(-1, 1))
def test_the_next_attempt_is_in_the_future_and_never_after_the_end(
    attempts: int, now: float, jitter: float
) -> None:
    schedule = RetrySchedule(attempts=10**7)
    at = retry.next_attempt(schedule, attempts=attempts, queued_at=0, now=now, jitter=jitter)
    assert at is None or now < at <= schedule.give_up_after


# Next hops


def mx(*records: tuple[int, str], own: str = "us.example") -> list[str]:
    def backwards(names: list[str]) -> None:
        names.reverse()

    return [host.name for host in nexthops.by_mx("d.example", records, own.__eq__, backwards)]


def test_mx_hosts_come_by_preference_and_equals_shuffled() -> None:
    assert mx((20, "c."), (10, "A."), (10, "b.")) == ["b", "a", "c"]


def test_without_mx_the_domain_is_the_host() -> None:
    assert mx() == ["d.example"]


def test_where_we_are_an_mx_only_better_ones_count() -> None:
    assert mx((10, "a."), (20, "US.example."), (20, "b."), (30, "c.")) == ["a"]
    with pytest.raises(Undeliverable, match="come back"):
        mx((10, "us.example."), (20, "a."))
    with pytest.raises(Undeliverable, match="come back"):
        mx(own="d.example")


@pytest.mark.parametrize(
    ("template", "name", "ours"),
    [
        ("MX.us.example", "mx.us.example", True),
        ("mx.us.example", "mxxus.example", False),
        ("mx{ordinal}.us.example", "mx7.us.example", True),
        ("mx{ordinal}.us.example", "mx.us.example", False),
        ("{member}.us.example", "default-3.us.example", True),
        ("{member}.us.example", "other-3.us.example", False),
    ],
)
def test_every_members_name_is_ours(template: str, name: str, *, ours: bool) -> None:
    assert Ourselves(template, "default-0").has_name(name) is ours


def test_addresses_are_ours_where_a_listener_takes_mail_from_everybody() -> None:
    assert not Ourselves("mx.example", "default-0").listens_on("192.0.2.1")
    assert Ourselves("mx.example", "default-0", ("",)).listens_on("192.0.2.1")
    only = Ourselves("mx.example", "default-0", ("2001:DB8:0::1",))
    assert only.listens_on("2001:db8::1")
    assert not only.listens_on("192.0.2.1")


def test_a_domain_cannot_keep_us_with_any_number_of_hosts() -> None:
    assert len(mx(*((n, f"h{n}.") for n in range(1000)))) == nexthops.MAX_HOSTS


def test_a_null_mx_is_final() -> None:
    with pytest.raises(Undeliverable) as problem:
        mx((0, "."))
    assert problem.value.status == "5.1.10"


def test_routes_come_by_priority_and_equals_in_turn() -> None:
    routes = [NextHop(host=one, priority=n) for one, n in [("c", 2), ("a", 1), ("B.example.", 1)]]
    assert [host.name for host in nexthops.by_route(routes, 0)] == ["a", "b.example", "c"]
    assert [host.name for host in nexthops.by_route(routes, 1)] == ["b.example", "a", "c"]


def test_an_address_as_route_has_no_name() -> None:
    (four, six) = nexthops.by_route([NextHop(host="192.0.2.1"), NextHop(host="[2001:db8::1]")], 0)
    assert (four.name, four.address, four.label) == ("", "192.0.2.1", "[192.0.2.1]")
    assert (six.name, six.address) == ("", "2001:db8::1")


@pytest.mark.parametrize(
    ("domain", "address"), [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1")]
)
def test_an_address_literal_is_its_own_next_hop(domain: str, address: str) -> None:
    host = nexthops.by_literal(domain)
    assert host is not None
    assert (host.name, host.address) == ("", address)


# Replies


def test_replies_are_put_together_from_lines_and_pieces() -> None:
    parser = ReplyParser()
    found = [one for byte in b"250-first\r\n250 2.1.0 second\r\n354\n" for one in parser.feed(bytes([byte]))]
    assert [(one.code, one.lines) for one in found] == [(250, ("first", "2.1.0 second")), (354, ("",))]
    assert not parser.pending


@pytest.mark.parametrize("text", [b"hello\r\n", b"25\r\n", b"650 x\r\n", b"250x\r\n", b"\r\n", b"x" * 10_000])
def test_what_is_no_reply_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedReply):
        ReplyParser().feed(text)


def test_of_a_long_reply_only_the_beginning_is_told() -> None:
    """Log, status, tracking and bounces hold it; a hostile next hop would fill them."""
    [reply] = ReplyParser().feed(
        b"".join(b"454-4.7.0 " + b"no " * 1000 + b"\r\n" for _ in range(20)) + b"454 end\r\n"
    )
    assert len(reply.lines) == 21
    assert str(reply).startswith("454 4.7.0 no no no")
    assert len(str(reply)) == 1004
    failure = Failure.of_reply(reply, "Required", host="mx.example", address="192.0.2.1", over_tls=True)
    assert (failure.status, len(failure.text), len(failure.reply)) == ("4.7.0", 1004, 1004)


def test_a_reply_without_end_is_refused() -> None:
    parser = ReplyParser()
    with pytest.raises(MalformedReply):
        parser.feed((b"250-" + b"x" * 100 + b"\r\n") * 10_000)


@given(st.binary(max_size=200))
def test_the_parser_takes_any_bytes(data: bytes) -> None:
    try:
        for reply in ReplyParser().feed(data):
            assert 200 <= reply.code <= 599
            assert reply.text.isprintable()
    except MalformedReply:
        pass


def test_enhanced_codes_are_the_peers_own_where_they_fit() -> None:
    def status(text: bytes) -> str:
        return ReplyParser().feed(text + b"\r\n")[0].status

    assert status(b"550 5.1.1 unknown") == "5.1.1"
    assert status(b"550 4.1.1 unknown") == "5.0.0"
    assert status(b"451 later") == "4.0.0"


def test_keywords_of_an_ehlo_reply() -> None:
    (reply,) = ReplyParser().feed(b"250-STARTTLS.example\r\n250-size 100\r\n250 starttls\r\n")
    assert replies.offered(reply) == {"SIZE": "100", "STARTTLS": ""}


# Envelopes


LINES = st.lists(st.binary(max_size=20).map(lambda one: one.translate(None, b"\r\n\0"))).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


def stuffed(*pieces: bytes) -> bytes:
    stuffing = Stuffing()
    return b"".join(map(stuffing.feed, pieces)) + stuffing.end()


@given(st.lists(st.one_of(st.binary(max_size=9), st.text("\r\n.x", max_size=9).map(str.encode)), max_size=9))
def test_what_is_stuffed_does_not_depend_on_how_it_was_cut(pieces: list[bytes]) -> None:
    assert stuffed(*pieces) == stuffed(b"".join(pieces))


@given(LINES)
def test_what_is_stuffed_comes_out_of_our_own_reception_as_it_was(body: bytes) -> None:
    incoming = Incoming(10_000, 25)
    assert incoming.feed(stuffed(body)) == b""
    assert incoming.refusal is None
    assert b"".join(incoming.pieces) == body


@given(st.binary(max_size=60))
def test_whatever_the_body_only_its_end_ends_it(body: bytes) -> None:
    data = b"\r\n" + stuffed(body)
    assert data.index(b"\r\n.\r\n") == len(data) - 5
    assert data.count(b"\n") == data.count(b"\r") == data.count(b"\r\n")


@pytest.mark.parametrize(
    "ending", [b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r"]
)
def test_no_malformed_ending_smuggles_a_message(ending: bytes) -> None:
    data = stuffed(b"a" + ending + b"MAIL FROM:<x>\r\n")
    assert b"\n.\n" not in data.replace(b"\r", b"")[:-3]


@pytest.mark.parametrize(
    ("changes", "body", "offered", "status"),
    [
        ({"address": "ü@mailbox.example"}, b"", {}, "5.6.7"),
        ({"smtputf8": True}, "Subject: ü\r\n\r\nx".encode(), {}, "5.6.7"),
        ({"body_8bit": True}, b"A: b\r\n\r\n\xff\r\n", {}, "5.6.3"),
        ({}, b"x" * 11, {"SIZE": "10"}, "5.3.4"),
        ({"address": "x>\r\nRSET@mailbox.example"}, b"", {}, "5.1.3"),
        ({"sender": "x> SIZE=1"}, b"", {}, "5.1.3"),
    ],
)
def test_what_the_next_hop_cannot_take_is_refused(
    changes: dict[str, Any], body: bytes, offered: dict[str, str], status: str
) -> None:
    found = envelopes.prepare([queued(**changes)], Content.of(body), offered)
    assert isinstance(found, Refused)
    assert found.status == status


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({"smtputf8": True}, b"Subject: plain\r\n\r\n\xff"),
        ({"body_8bit": True}, b"plain"),
        ({}, b"A: b\r\n\r\n\xff\r\n"),
        ({"address": '"a<b"@mailbox.example'}, b""),
    ],
    ids=["UTF-8 not needed", "8 bits not needed", "8 bits not declared", "a quoted local part"],
)
def test_what_need_not_be_offered_is_not_asked_for(changes: dict[str, Any], body: bytes) -> None:
    found = envelopes.prepare([queued(**changes)], Content.of(body), {})
    assert isinstance(found, Envelope)
    assert found.mail == "MAIL FROM:<a@sender.example>"


# Lanes and rates


def test_recipients_of_one_message_are_one_job_up_to_a_hundred() -> None:
    lane = Lane("mailbox.example")
    for rid in range(MAX_RECIPIENTS + 1):
        lane.add(queued(rid=rid))
    lane.add(queued(rid=999, mid=2))
    jobs = [lane.take() for _ in range(4)]
    assert [len(job.recipients) if job else None for job in jobs] == [MAX_RECIPIENTS, 1, 1, None]


def test_a_job_that_was_taken_gets_no_more_recipients() -> None:
    lane = Lane("mailbox.example")
    lane.add(queued(rid=1))
    first = lane.take()
    lane.add(queued(rid=2))
    assert first is not None
    assert first.rids == [1]
    assert len(lane) == 1


@pytest.mark.parametrize(
    ("jobs", "sessions", "idle", "limit", "wants"),
    [
        (0, 0, 0, 10, False),
        (1, 0, 0, 10, True),
        (1, 0, 0, 0, False),
        (1, 1, 1, 10, False),
        (2, 1, 1, 10, True),
        (1, 4, 0, 10, True),
        (1, 5, 0, 10, False),
        (11, 5, 0, 10, True),
        (11, 10, 0, 10, False),
    ],
)
def test_when_one_more_session_helps(jobs: int, sessions: int, idle: int, limit: int, *, wants: bool) -> None:
    lane = Lane("mailbox.example", sessions=sessions, idle=idle)
    for mid in range(jobs):
        lane.add(queued(mid=mid))
    assert lane.wants_session(limit) == wants


def test_a_lane_leaves_room_for_others() -> None:
    lanes = Lanes()
    shares: list[int] = []
    for n in range(5):
        lane = lanes.add(queued(domain=f"{n}.example"))
        while lane.sessions < lanes.share(lane, 16):
            lanes.joined(lane)
        shares.append(lane.sessions)
    assert shares == [8, 4, 2, 1, 1]


def test_a_pause_that_ends_between_two_looks_is_not_missed() -> None:
    lanes = Lanes()
    lane = lanes.add(queued())
    lane.paused_until = 10.0
    assert lanes.waiting(9.9) == []
    # However late it is by then: whoever waits for it looks again at once.
    assert lanes.next_resumed() == 10.0
    assert lanes.waiting(10.1) == [lane]
    assert lanes.next_resumed() is None


def test_rates_are_per_domain_and_period() -> None:
    clock = [0.0]
    rates = Rates(Tally.alone(lambda: clock[0]))

    def take(recipients: int, now: float, domain: str = "a.example") -> float:
        clock[0] = now
        return rates.take(domain, recipients, count=3, period=16, now=now)

    assert take(2, 0) == 0
    assert take(1, 1) == 0
    assert take(1, 2) == 17
    assert take(1, 2, "b.example") == 0
    assert take(3, 2) == 18
    assert take(1, 16.9) == 17
    assert take(1, 17) == 0
    assert take(100, 50) == 0
    assert take(1, 51) == 67


# Bounces

COMMON = bounces.Terms("mx.letterlock.example", "", max_size=1000)
BODY = b"From: a@sender.example\r\nSubject: s\r\n\r\nbody text\r\n"
REFUSAL = Failure(True, "5.1.1", "550 5.1.1 unknown", "mx.mailbox.example", "192.0.2.1", "550 5.1.1 unknown")


def bounce(*failed: tuple[Queued, Failure], protected: bool = False, body: bytes = BODY) -> Any:
    made = bounces.notice(failed or [(queued(), REFUSAL)], body, COMMON, 1_800_000_000, protected=protected)
    if made is None:
        return None
    assert made.sender == ""
    assert made.recipients[0].address == "a@sender.example"
    assert made.body.count(b"\n") == made.body.count(b"\r\n")
    return email.message_from_bytes(made.body, policy=email.policy.default)


def test_a_bounce_is_a_delivery_status_notification() -> None:
    message = bounce((queued(orcpt="rfc822;B+2Bx@mailbox.example", envid="id+2B1"), REFUSAL))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@mx.letterlock.example"
    _, status, original = message.iter_parts()
    fields, recipient = status.get_payload()
    assert fields["Reporting-MTA"] == "dns; mx.letterlock.example"
    assert fields["Original-Envelope-Id"] == "id+1"
    assert recipient["Original-Recipient"] == "rfc822;B+x@mailbox.example"
    assert recipient["Final-Recipient"] == "rfc822; b@mailbox.example"
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.1.1")
    assert recipient["Remote-MTA"] == "dns; mx.mailbox.example"
    assert recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 unknown"
    assert original.get_content_type() == "message/rfc822"
    assert original.get_payload()[0].get_content() == "body text\r\n"


@pytest.mark.parametrize(
    ("changes", "protected", "body"),
    [
        ({}, True, BODY),
        ({"ret": "FULL"}, True, BODY),
        ({"ret": "HDRS"}, False, BODY),
        ({}, False, BODY + b"x" * 1000),
    ],
    ids=["protected", "protected, whatever is asked", "as asked", "too large"],
)
def test_only_the_header_is_returned(changes: dict[str, Any], body: bytes, *, protected: bool) -> None:
    message = bounce((queued(**changes), REFUSAL), protected=protected, body=body)
    assert list(message.iter_parts())[2].get_content_type() == "text/rfc822-headers"
    assert b"body text" not in message.as_bytes()
    assert b"Subject: s" in message.as_bytes()


@pytest.mark.parametrize("changes", [{"sender": ""}, {"notify": "NEVER"}, {"notify": "SUCCESS"}])
def test_nobody_is_told_who_is_not_to_be(changes: dict[str, Any]) -> None:
    assert bounce((queued(**changes), REFUSAL)) is None


def test_only_those_recipients_are_named_whose_sender_is_to_be_told() -> None:
    message = bounce((queued(notify="NEVER", address="quiet@x.example"), REFUSAL), (queued(), REFUSAL))
    assert b"quiet@x.example" not in message.as_bytes()


def test_when_time_is_up_tls_is_named_as_the_reason() -> None:
    failure = Failure.of_event(Event.NOT_TRUSTED, "issuer unknown", host="mx.example", address="192.0.2.1")
    final = failure.final()
    assert (final.permanent, final.status) == (True, "5.7.5")
    assert "TLS was required but could not be negotiated" in final.text
    unreachable = Failure.of_event(Event.UNREACHABLE, "refused", host="mx.example", address="192.0.2.1")
    assert unreachable.final().status == "5.4.7"
    assert REFUSAL.final() is REFUSAL


@given(st.text(max_size=100))
def test_replies_cannot_add_fields_to_a_bounce(text: str) -> None:
    failure = replace(REFUSAL, text=text, reply=text)
    message = bounce((queued(), failure))
    assert len(list(message.iter_parts())) == 3
    assert message.keys().count("Subject") == 1
