"""The harness itself: a failure here is none of Letterlock's."""

from pathlib import Path

import pytest

from tests.harness import letters, ports, programs, waiting
from tests.harness.certificates import Authority
from tests.harness.postfix import Postfix
from tests.harness.swaks import swaks


def test_mail_goes_from_postfix_to_postfix_over_verified_tls_byte_for_byte() -> None:
    authority = Authority()
    message = letters.letter()
    with (
        Postfix.receiving(certificate=authority.issue("mx.mailbox.example"), tls="encrypt") as receiver,
        Postfix.sending(receiver.port, ca=authority.pem, match=["mx.mailbox.example"]) as sender,
    ):
        sender.submit(message, to="someone@mailbox.example")
        found = waiting.until(
            lambda: letters.arrived(message, receiver.messages()), what="the message in the mailbox"
        )
        assert "using TLSv1.3" in letters.added_headers(message, found)
        waiting.until(lambda: "Verified TLS connection established" in sender.log, what="a verified session")


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_sending_postfix_keeps_mail_back_when_the_receiver_cannot_be_verified(wrong: str) -> None:
    authority = Authority()
    trusted = Authority() if wrong == "authority" else authority
    name = "other.example" if wrong == "name" else "mx.mailbox.example"
    message = letters.letter()
    with (
        Postfix.receiving(certificate=authority.issue(name)) as receiver,
        Postfix.sending(receiver.port, ca=trusted.pem, match=["mx.mailbox.example"]) as sender,
    ):
        sender.submit(message, to="someone@mailbox.example")
        waiting.until(lambda: "status=deferred" in sender.log, what="a deferral")
        assert receiver.messages() == []
        assert "someone@mailbox.example" in sender.queue()


def test_swaks_delivers_over_starttls(tmp_path: Path) -> None:
    message = letters.letter()
    with Postfix.receiving(certificate=Authority().issue("mx.mailbox.example")) as receiver:
        transcript = swaks(receiver.port, data=message, directory=tmp_path)
        assert transcript.accepted, transcript.text
        assert "TLS started" in transcript.text
        waiting.until(lambda: letters.arrived(message, receiver.messages()), what="the message")


def test_a_receiving_postfix_takes_a_new_certificate_while_it_runs(tmp_path: Path) -> None:
    first, second = Authority(), Authority()
    with Postfix.receiving(certificate=first.issue("mx.mailbox.example")) as receiver:
        check = ["--tls-verify", "--tls-sni", "mx.mailbox.example"]
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(second.pem)
        options = [*check, "--tls-ca-path", str(ca_file), "--quit-after", "EHLO"]
        assert not swaks(receiver.port, options=options).accepted
        receiver.use_certificate(second.issue("mx.mailbox.example"))
        waiting.until(lambda: swaks(receiver.port, options=options).accepted, what="the new certificate")


def test_a_missing_program_is_named_in_one_sentence() -> None:
    with pytest.raises(
        programs.MissingProgramError, match=r"'no-such-mta' is missing: run tests/harness/install\.sh"
    ):
        programs.require("no-such-mta")


def test_a_server_does_not_start_where_another_listens_and_names_it() -> None:
    with (
        Postfix.receiving(certificate=Authority().issue("mx.mailbox.example")) as left_over,
        pytest.raises(
            ports.PortTakenError, match=r"taken by process \d+ \(smtpd|taken by process \d+ \(.*master"
        ),
    ):
        Postfix.receiving(certificate=Authority().issue("mx.mailbox.example"), port=left_over.port).start()
