"""Mail through one member: a real client, a real next hop, and the message unchanged in a mailbox."""

import re
from pathlib import Path

import pytest

from tests.harness import letters, waiting
from tests.harness.certificates import Authority
from tests.harness.postfix import Postfix
from tests.harness.relay import LISTENER_NAME
from tests.harness.swaks import swaks
from tests.mail.between import MakeBetween


def test_swaks_to_letterlock_to_postfix_byte_for_byte_over_verified_tls(
    between: MakeBetween, tmp_path: Path
) -> None:
    made = between()
    message = letters.letter()
    transcript = swaks(made.port, data=message, directory=tmp_path)
    assert transcript.accepted, transcript.text
    found = made.wait_arrived(message)
    added = letters.added_headers(message, found)
    # The receiver saw Letterlock come over TLS, and Letterlock says how the message came to it.
    assert "using TLSv1.3" in added
    assert f"by {LISTENER_NAME}" in added
    assert "ESMTPS" in added
    last = made.wait_last_tls("Delivered")
    assert (last.result, last.verified, last.matched_name) == ("Delivered", True, "mailbox.example")
    assert last.protocol == "TLSv1.3"
    made.wait_queue(0)


def test_postfix_to_letterlock_to_postfix_verified_on_both_sides(
    between: MakeBetween, authority: Authority
) -> None:
    made = between(reception="Required")
    batch = [letters.letter(subject=f"Letter {n}") for n in range(20)]
    with Postfix.sending(made.port, tls="secure", ca=authority.pem, match=[LISTENER_NAME]) as sender:
        for message in batch:
            sender.submit(message, to="someone@mailbox.example")
        for message in batch:
            made.wait_arrived(message)
        assert "Verified TLS connection established" in sender.log
        waiting.until(lambda: "Mail queue is empty" in sender.queue(), what="the sender's queue to empty")
    assert len(made.receiver.messages()) == len(batch)


@pytest.mark.parametrize("size", [100, 70_000, 5_000_000], ids=["tiny", "over 64 KiB", "5 MB"])
def test_messages_of_all_sizes_arrive_unchanged(between: MakeBetween, tmp_path: Path, size: int) -> None:
    made = between()
    message = letters.sized_letter(size)
    transcript = swaks(made.port, data=message, directory=tmp_path)
    assert transcript.accepted, transcript.text[-2000:]
    made.wait_arrived(message)


def test_required_takes_nothing_before_starttls(between: MakeBetween, tmp_path: Path) -> None:
    made = between(reception="Required")
    transcript = swaks(made.port, tls=False, data=letters.letter(), directory=tmp_path)
    assert not transcript.accepted
    assert "530 5.7.0 Must issue a STARTTLS command first" in transcript.text
    assert "250-STARTTLS" in transcript.text or "250 STARTTLS" in transcript.text
    waiting.until(
        lambda: made.member.logged("TLS was required but remote host did not initiate it"),
        what="the log line",
    )
    assert not made.member.logged("queued for delivery")
    assert made.member.queue() == 0
    assert made.receiver.messages() == []


def test_no_offers_no_starttls_and_takes_mail_in_clear(between: MakeBetween, tmp_path: Path) -> None:
    made = between(reception="No")
    assert "STARTTLS" not in swaks(made.port, tls=False, options=["--quit-after", "EHLO"]).text
    message = letters.letter()
    assert swaks(made.port, tls=False, data=message, directory=tmp_path).accepted
    made.wait_arrived(message)


def test_preferred_takes_mail_in_clear_and_encrypted(between: MakeBetween, tmp_path: Path) -> None:
    made = between(reception="Preferred")
    for tls in (False, True):
        message = letters.letter()
        assert swaks(made.port, tls=tls, data=message, directory=tmp_path).accepted
        made.wait_arrived(message)


def test_recipients_that_are_not_listed_are_rejected(between: MakeBetween, tmp_path: Path) -> None:
    made = between()
    transcript = swaks(made.port, to="someone@elsewhere.test", data=letters.letter(), directory=tmp_path)
    assert not transcript.accepted
    waiting.until(lambda: made.member.logged("rejected: "), what="the refusal in the log")
    assert not made.member.logged("queued for delivery")
    assert made.member.queue() == 0


def test_postfix_sends_nothing_larger_than_the_listener_says_it_takes(
    between: MakeBetween, authority: Authority
) -> None:
    made = between(policy={"max_message_size": 20_000})
    small = letters.letter()
    with Postfix.sending(made.port, tls="secure", ca=authority.pem, match=[LISTENER_NAME]) as sender:
        sender.submit(letters.sized_letter(30_000), to="someone@mailbox.example")
        sender.wait_said("exceeds size limit 20000 of server")
        sender.submit(small, to="someone@mailbox.example")
        made.wait_arrived(small)
    assert len(made.receiver.messages()) == 1


def test_a_client_may_send_its_commands_in_groups(between: MakeBetween, tmp_path: Path) -> None:
    made = between()
    message = letters.letter()
    grouped = swaks(made.port, data=message, directory=tmp_path, options=["--pipeline"])
    assert grouped.accepted, grouped.text
    assert re.search("MAIL FROM:.*\n.*RCPT TO:.*\n.*DATA\n", grouped.text), (
        "sent before the first is answered"
    )
    made.wait_arrived(message)
