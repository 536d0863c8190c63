"""What senders are told (RFC 3461, 3464, 6533): when, and in a form that mail programs parse."""

import email
import email.policy
import re
import subprocess
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
from flufl.bounce import all_failures  # pyright: ignore[reportUnknownVariableType] - it says nothing of types

from letterlock_api.snapshot import RetrySchedule
from letterlock_gateway.deliver import bounces
from letterlock_gateway.deliver.replies import Reply
from letterlock_gateway.spool import NewMessage
from tests.gateway.test_deliver import emptied, to_mailbox, to_sender
from tests.gateway.test_deliver_parts import BODY, COMMON, REFUSAL, queued
from tests.harness import programs
from tests.harness.deliveries import Delivering, delivering, until
from tests.harness.faulty_smtp import KEYWORDS, FaultySMTP

_NOW = 1_800_000_000.0
_TAKEN = Reply(250, ("2.0.0 Ok: queued",))
_WITHOUT_DSN = tuple(one for one in KEYWORDS if one != "DSN")


def parsed(made: NewMessage | None) -> EmailMessage:
    assert made is not None
    assert made.sender == ""
    assert made.recipients[0].notify == "NEVER"
    return email.message_from_bytes(made.body, policy=email.policy.SMTPUTF8)


def groups(message: EmailMessage) -> list[Any]:
    """The field groups of the delivery status."""
    status = list(message.iter_parts())[1]
    if status.get_content_type() == "message/delivery-status":
        return cast("list[Any]", status.get_payload())
    inner = cast("list[Any]", status.get_payload())[
        0
    ]  # message/global-…: a message, its text the other groups
    return [inner, email.message_from_string(inner.get_payload())]


def delay(*waiting: Any, **changes: Any) -> NewMessage | None:
    failure = replace(REFUSAL, permanent=False, status="4.4.1", text="no connection", reply="")
    given = waiting or (queued(**changes),)
    return bounces.delay(given, failure, BODY, COMMON, _NOW, give_up_after=3600)


def test_a_delay_says_so_until_when_it_is_tried_and_carries_the_header_only() -> None:
    message = parsed(delay(queued_at=_NOW - 100))
    (_, recipient) = groups(message)
    assert (recipient["Action"], recipient["Status"]) == ("delayed", "4.4.1")
    assert recipient["Will-Retry-Until"] == "Fri, 15 Jan 2027 08:58:20 +0000"
    assert recipient["Last-Attempt-Date"] == "Fri, 15 Jan 2027 08:00:00 +0000"
    assert b"body text" not in message.as_bytes()
    assert b"Subject: s" in message.as_bytes()


@pytest.mark.parametrize(
    "changes",
    [{"sender": ""}, {"notify": "NEVER"}, {"notify": "FAILURE,SUCCESS"}, {"told_delay": True}],
    ids=["null sender", "never", "not of delays", "told before"],
)
def test_nobody_is_told_of_a_delay_who_is_not_to_be(changes: dict[str, Any]) -> None:
    assert delay(**changes) is None


def test_success_is_told_only_where_it_was_asked_for() -> None:
    asked, other = queued(notify="SUCCESS,FAILURE"), queued(rid=2, address="c@mailbox.example")
    message = parsed(bounces.relayed([(asked, _TAKEN), (other, _TAKEN)], "mx.example", BODY, COMMON, _NOW))
    (_, recipient) = groups(message)
    assert (recipient["Action"], recipient["Status"]) == ("relayed", "2.0.0")
    assert recipient["Final-Recipient"] == "rfc822; b@mailbox.example"
    assert b"c@mailbox.example" not in message.as_bytes()
    assert bounces.relayed([(other, _TAKEN)], "mx.example", BODY, COMMON, _NOW) is None


def test_an_ascii_sender_hears_of_a_utf8_recipient_in_ascii() -> None:
    made = bounces.notice(
        [(queued(address="jörg@bücher.example"), REFUSAL)], BODY, COMMON, _NOW, protected=True
    )
    assert made is not None
    assert not made.smtputf8
    (_, recipient) = groups(parsed(made))
    assert recipient["Final-Recipient"] == r"utf-8; j\x{F6}rg@b\x{FC}cher.example"


def test_a_utf8_sender_hears_in_utf8() -> None:
    body = "From: ü@sender.example\r\nSubject: Grüße\r\n\r\ntext\r\n".encode()
    failed = queued(sender="ü@sender.example", address="jörg@mailbox.example", smtputf8=True)
    made = bounces.notice([(failed, REFUSAL)], body, COMMON, _NOW, protected=True)
    assert made is not None
    assert made.smtputf8
    assert made.recipients[0].address == "ü@sender.example"
    _, status, returned = parsed(made).iter_parts()
    assert status.get_content_type() == "message/global-delivery-status"
    assert returned.get_content_type() == "message/global-headers"
    assert "utf-8; jörg@mailbox.example" in made.body.decode()


@pytest.mark.parametrize("sender", ["a@sender.example", "ü@sender.example"], ids=["ascii", "utf8"])
def test_whatever_a_next_hop_says_no_line_is_too_long_for_the_next_server(sender: str) -> None:
    """RFC 5322 section 2.1.1: 998 octets. Exim, for one, refuses more, and then nobody hears of it."""
    reply = f"550 5.1.1 {'unbekannt für immer ' * 3000}"
    failure = replace(REFUSAL, text=reply, reply=reply)
    made = bounces.notice([(queued(sender=sender), failure)], BODY, COMMON, _NOW, protected=True)
    assert made is not None
    assert max(len(line) for line in made.body.splitlines()) <= 998
    assert made.body.count(b"550 5.1.1 unbekannt f") == 2, "and still it says what was said"


def sent(kind: str) -> NewMessage:
    """A notice of each kind."""
    made = {
        "failed": bounces.notice([(queued(), REFUSAL)], BODY, COMMON, _NOW, protected=True),
        "delayed": delay(),
        "relayed": bounces.relayed([(queued(notify="SUCCESS"), _TAKEN)], "h.example", BODY, COMMON, _NOW),
    }[kind]
    assert made is not None
    return made


@pytest.mark.parametrize("kind", ["failed", "delayed", "relayed"])
def test_another_mail_program_finds_the_parts(kind: str) -> None:
    """maildrop's reformime, which has a MIME parser of its own; as mail lies on disk, with LF line ends."""
    text = sent(kind).body.replace(b"\r\n", b"\n")
    kinds = re.findall(r"^content-type: (\S+)", reformime(text, "-i"), re.MULTILINE)
    assert kinds == ["multipart/report", "text/plain", "message/delivery-status", "text/rfc822-headers"]
    assert f"Action: {kind}" in reformime(text, "-s", "1.2", "-e")
    assert "Subject: s" in reformime(text, "-s", "1.3", "-e")


@pytest.mark.parametrize(
    ("kind", "for_now", "for_good"),
    [("failed", [], [b"b@mailbox.example"]), ("delayed", [b"b@mailbox.example"], []), ("relayed", [], [])],
)
def test_mailing_list_software_knows_who_failed_and_whether_for_good(
    kind: str, for_now: list[bytes], for_good: list[bytes]
) -> None:
    """GNU Mailman's bounce detector: it unsubscribes who fails for good, and nobody whose mail is late."""
    temporary, permanent = all_failures(email.message_from_bytes(sent(kind).body))
    assert (list(temporary), list(permanent)) == (for_now, for_good)


def reformime(text: bytes, *arguments: str) -> str:
    command = [str(programs.require("reformime")), *arguments]
    return subprocess.run(command, input=text, capture_output=True, timeout=30, check=True).stdout.decode()


# Over sockets.


def told(senders: FaultySMTP, action: str) -> list[bytes]:
    return [one.data for one in senders.delivered if b"Action: " + action.encode() in one.data]


def settings(made: Delivering, **changes: Any) -> None:
    made.settings = made.settings.model_copy(update=changes)


async def test_the_sender_is_told_of_a_delay_once(tmp_path: Path) -> None:
    async with FaultySMTP(fault="MAIL 451") as server, FaultySMTP() as senders, delivering(tmp_path) as made:
        settings(made, retry=RetrySchedule(initial=0.1, max=0.1), delay_notice=0.3)
        made.apply(to_mailbox(server), to_sender(senders))
        await made.send()
        await until(lambda: told(senders, "delayed"), "the notice")
        tries = sum("Delayed:" in line["message"] for line in made.lines)
        await until(
            lambda: sum("Delayed:" in line["message"] for line in made.lines) >= tries + 3, "more tries"
        )
        server.fault = ""
        await emptied(made)
        assert len(told(senders, "delayed")) == 1
        assert len(server.delivered) == 1


@pytest.mark.parametrize("notify", ["NEVER", "FAILURE"])
async def test_a_delay_is_not_told_where_it_is_not_wanted(tmp_path: Path, notify: str) -> None:
    async with FaultySMTP(fault="MAIL 451") as server, FaultySMTP() as senders, delivering(tmp_path) as made:
        settings(made, retry=RetrySchedule(initial=0.1, max=0.1), delay_notice=0.1)
        made.apply(to_mailbox(server), to_sender(senders))
        await made.send(notify=notify)
        await until(lambda: sum("Delayed:" in line["message"] for line in made.lines) >= 5, "tries")
        server.fault = ""
        await emptied(made)
        assert senders.sessions == []


async def test_success_is_told_by_us_where_the_next_hop_cannot(tmp_path: Path) -> None:
    async with (
        FaultySMTP(keywords=_WITHOUT_DSN) as server,
        FaultySMTP() as senders,
        delivering(tmp_path) as made,
    ):
        made.apply(to_mailbox(server), to_sender(senders))
        await made.send(notify="SUCCESS", envid="QQ1", ret="FULL")
        await until(lambda: senders.delivered, "the notice")
        assert b"Action: relayed" in senders.delivered[0].data
        assert b"Original-Envelope-Id: QQ1" in senders.delivered[0].data
        assert b"secret text" not in senders.delivered[0].data
        assert senders.delivered[0].mail.startswith("MAIL FROM:<>")
        assert "NOTIFY" not in server.delivered[0].recipients[0]


async def test_success_is_left_to_a_next_hop_that_offers_dsn(tmp_path: Path) -> None:
    async with FaultySMTP() as server, FaultySMTP() as senders, delivering(tmp_path) as made:
        made.apply(to_mailbox(server), to_sender(senders))
        await made.send(notify="SUCCESS,DELAY", envid="QQ1", ret="HDRS")
        await emptied(made)
        assert "NOTIFY=SUCCESS,DELAY" in server.delivered[0].recipients[0]
        assert "ENVID=QQ1" in server.delivered[0].mail
        assert "RET=HDRS" in server.delivered[0].mail
        assert senders.sessions == []


async def test_a_bounce_that_bounces_ends(tmp_path: Path) -> None:
    refusing = FaultySMTP(fault="RCPT 550")
    async with refusing, delivering(tmp_path) as made:
        made.apply(to_mailbox(refusing), to_sender(refusing))
        await made.send()
        await until(lambda: sum("Bounced:" in line["message"] for line in made.lines) == 2, "both")
        await emptied(made)
        assert made.logged("no bounce is sent")
