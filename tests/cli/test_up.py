"""The life of `letterlock up` and of the receiver that `make run` starts beside it: edits, ends, deaths (K5)."""

import signal
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.upped import Upped, quickstart, receiver
from tests.harness import letters
from tests.harness.waiting import until

_ENVELOPE = ("you@example.net", ["hello@example.com"])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Upped]:
    """The quickstart, not started."""
    with quickstart(tmp_path) as made:
        yield made


@pytest.fixture
def running(run: Upped) -> Upped:
    """The quickstart, started, with every resource Programmed."""
    run.start()
    run.programmed()
    return run


def send(run: Upped, message: bytes) -> None:
    """Send over STARTTLS that is verified against the listener's certificate."""
    trust = ssl.create_default_context(cafile=str(run.state / "secrets/letterlock-cert-mx/tls.crt"))
    trust.check_hostname = False  # we connect to an address; the certificate itself is what is trusted
    with smtplib.SMTP("127.0.0.1", run.listener_port, local_hostname="client.example", timeout=30) as client:
        client.starttls(context=trust)
        sender, recipients = _ENVELOPE
        client.sendmail(sender, recipients, message)


def mailbox(run: Upped) -> list[bytes]:
    """What the receiver has kept."""
    return [path.read_bytes() for path in sorted((run.state / "mailbox").glob("*.eml"))]


def test_a_message_arrives_byte_for_byte_over_verified_tls(running: Upped) -> None:
    message = letters.letter(to="hello@example.com").replace(b"\n", b"\r\n")
    with receiver(running):
        send(running, message)
        found = until(lambda: letters.arrived(message, mailbox(running)), what="the message")
    assert b"ESMTPS" in letters.added_headers(message, found).encode()

    def verified() -> dict[str, Any]:
        last = running.status("DestinationControl", "example-com").get("lastTLS", {})
        return last if last.get("verified") else {}

    assert until(verified, what="a verified lastTLS")["matchedName"] == "example.com"
    until(
        lambda: running.condition("DestinationControl", "example-com", "Delivering").get("status") == "True",
        what="Delivering",
    )


def test_an_edit_is_taken_while_it_runs(running: Upped) -> None:
    assert running.offers_starttls()
    running.edit("listener.yaml", "mode: Preferred", 'mode: "No"')
    until(lambda: running.offers_starttls() is False, what="STARTTLS no longer offered")
    until(lambda: running.status("Listener", "public").get("observedGeneration") == 2, what="generation 2")
    assert running.status("Listener", "public")["tls"] == "No"


def test_what_was_good_before_a_mistake_is_in_force_after_a_restart(running: Upped) -> None:
    (running.folder / "listener.yaml").write_text("kind: [")
    until(lambda: "error: listener.yaml" in running.stderr, what="the error")
    running.stop()
    running.start()
    until(
        lambda: running.condition("Listener", "public", "Programmed").get("status") == "True",
        what="Programmed",
    )
    until(running.offers_starttls, what="the listener")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_it_leaves_no_process(running: Upped, number: signal.Signals) -> None:
    below = running.members()
    assert below
    assert running.stop(number) == 0
    assert not [one for one in below if alive(one)]


def test_killing_it_leaves_no_process(running: Upped) -> None:
    below = running.members()
    running.process.kill()
    running.process.wait(timeout=30)
    until(lambda: not [one for one in below if alive(one)], what="the members to end")


def test_a_member_that_dies_is_started_again(running: Upped) -> None:
    first = next(one for one in running.members() if "gateway" in one.cmdline())
    first.kill()
    until(
        lambda: [one for one in running.members() if one.pid != first.pid and "gateway" in safe_cmdline(one)],
        what="a new member",
    )
    running.programmed()
    until(running.offers_starttls, what="the listener")


def alive(process: psutil.Process) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def safe_cmdline(process: psutil.Process) -> list[str]:
    """Its command line; empty where it has just gone."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
