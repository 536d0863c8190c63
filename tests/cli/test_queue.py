"""`letterlock queue` and `letterlock track` on the members of a running `letterlock up` (D12, D15)."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_up import mailbox, send
from tests.cli.upped import COMMAND, Upped, quickstart, receiver
from tests.harness import letters
from tests.harness.waiting import until


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Upped]:
    """The quickstart, started; nobody receives, so that mail waits, and is tried again only where a test says so."""
    with quickstart(tmp_path) as run:
        run.edit("gateway.yaml", "initial: 5s\n      max: 1m", "initial: 1h\n      max: 1h")
        run.start()
        run.programmed()
        yield run


def letterlock(
    run: Upped, *arguments: str, status: int = 0, errors: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command on the folder; it must end with this status, and say so many lines of error (if it fails: one)."""
    command = [*COMMAND, *arguments, "--dir", str(run.folder), "--state", str(run.state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    said = sum(line.startswith("error:") for line in done.stderr.splitlines())
    assert said == (errors if errors is not None else status == 1), done.stderr
    return done


def listed(run: Upped, *arguments: str) -> list[dict[str, Any]]:
    """The same as JSON; empty where nothing is found."""
    command = [*COMMAND, *arguments, "--dir", str(run.folder), "--state", str(run.state), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return json.loads(done.stdout)


def waiting_message(run: Upped, identity: str) -> int:
    """Send a message that then waits; gives its number once an attempt has failed."""
    text = letters.letter(to="hello@example.com", message_id=identity)
    send(run, text.replace(b"\n", b"\r\n"))

    def deferred() -> list[dict[str, Any]]:
        found = listed(run, "track", "--message-id", identity)
        return [one for one in found if one["recipients"][0]["state"] == "deferred"]

    return until(deferred, what=f"{identity} deferred")[0]["mid"]


def test_what_waits_is_listed_shown_and_tried_now_and_its_way_is_told(running: Upped) -> None:
    identity = "<first@client.example>"
    mid = waiting_message(running, identity)
    table = letterlock(running, "queue", "list").stdout
    assert "default-0" in table
    assert "<hello@example.com>" in table
    assert "no connection" in table
    shown = letterlock(running, "queue", "show", str(mid)).stdout
    assert "deferred" in shown
    assert "[127.0.0.1] over TLSv1.3" in shown
    [queued] = listed(running, "queue", "list", "--to", "@example.com", "--from", "you@example.net")
    assert (queued["mid"], queued["messageID"]) == (mid, identity)
    assert queued["recipients"][0]["attempts"] >= 1
    with receiver(running):
        assert "is tried now" in letterlock(running, "queue", "retry", str(mid)).stdout
        until(lambda: mailbox(running), what="the message")
        until(lambda: not listed(running, "queue", "list"), what="an empty queue")
    [tracked] = listed(running, "track", "--message-id", identity.strip("<>"))
    assert tracked["receivedOver"]["protocol"] == "TLSv1.3"
    [to] = tracked["recipients"]
    assert (to["state"], to["protocol"], to["verified"]) == ("delivered", "TLSv1.3", True)
    assert (to["matchedName"], to["ip"]) == ("example.com", "127.0.0.1")
    assert to["reply"].startswith("250")
    text = letterlock(running, "track", "--mid", str(mid)).stdout
    assert "verified example.com" in text
    log = (running.state / "log" / "default-0.log").read_text()
    assert f"MID {mid} RID" in log
    assert "as an administrator asked" in log


def test_what_is_deleted_is_gone_for_good_and_can_still_be_tracked(running: Upped) -> None:
    unwanted = waiting_message(running, "<unwanted@client.example>")
    wanted = waiting_message(running, "<wanted@client.example>")
    letterlock(running, "queue", "delete", "--all", status=1)
    letterlock(running, "queue", "delete", str(unwanted), "--to", "else@example.com", status=1)
    assert "deleted" in letterlock(running, "queue", "delete", str(unwanted)).stdout
    assert [one["mid"] for one in listed(running, "queue", "list")] == [wanted]
    with receiver(running):
        retried = listed(running, "queue", "retry", "--all")
        assert [set(one) for one in retried] == [{"member", "mid", "rid", "address", "done"}]
        until(lambda: not listed(running, "queue", "list"), what="an empty queue")
        [only] = mailbox(running)
    assert b"<wanted@client.example>" in only
    [tracked] = listed(running, "track", "--message-id", "unwanted@client.example")
    assert tracked["recipients"][0]["state"] == "deleted"
    assert "deleted by an administrator" in (running.state / "log" / "default-0.log").read_text()


def test_errors_say_what_to_do_and_the_spool_can_be_read_without_a_member(running: Upped) -> None:
    mid = waiting_message(running, "<x@client.example>")
    door = running.state / "spool" / "default-0" / "control"
    assert door.stat().st_mode & 0o777 == 0o600
    assert "queue list" in letterlock(running, "queue", "show", "999000", status=1).stderr
    assert "queue list" in letterlock(running, "queue", "retry", "999000", status=1).stderr
    assert "--yes" in letterlock(running, "queue", "delete", "--to", "@example.com", status=1).stderr
    assert "2026-01-31" in letterlock(running, "track", "--since", "yesterday", status=1).stderr
    assert "no message fits" in letterlock(running, "track", "--from", "nobody@example.net", status=1).stderr
    letterlock(running, "queue", "retry", status=2)
    running.stop()
    assert str(mid) in letterlock(running, "queue", "list").stdout
    assert "does `letterlock up` run?" in letterlock(running, "queue", "retry", str(mid), status=1).stderr
