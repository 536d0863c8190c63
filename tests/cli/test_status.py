"""`letterlock status`: the one screen, on a running and on a stopped `letterlock up`, and as pure values."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from letterlock_cli.overview import age, overview
from tests.cli.commands import letterlock, well
from tests.cli.test_up import send
from tests.cli.upped import COMMAND, Upped, quickstart
from tests.harness import letters
from tests.harness.waiting import until

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upped]:
    """The quickstart with one message that waits, since nobody receives."""
    with quickstart(tmp_path_factory.mktemp("status")) as run:
        run.start()
        run.programmed()
        send(run, letters.letter(to="hello@example.com").replace(b"\n", b"\r\n"))
        until(lambda: run.status("DestinationControl", "example-com").get("failing"), what="a failing domain")
        yield run


def options(run: Upped) -> tuple[str, ...]:
    return ("--dir", str(run.folder), "--state", str(run.state))


def test_one_screen_shows_all_that_matters_and_what_needs_attention_first(running: Upped) -> None:
    shown = well("status", *options(running)).stdout
    sections = [line for line in shown.splitlines() if line and not line.startswith(" ")]
    titles = ["Needs attention", "Gateways", "Members", "Listeners", "Destinations with trouble"]
    titles += ["Certificates, by expiry", "Queue"]
    assert [line for line in sections if line in titles] == titles
    assert f"127.0.0.1:{running.listener_port}" in shown
    assert "1 recipient waits, the oldest for" in shown
    assert "example.com (1)" in shown
    assert "DestinationControl/example-com   Unreachable" in shown
    assert "All resources" not in shown
    assert "\x1b" not in shown
    everything = well("status", "--all", *options(running)).stdout.partition("All resources")[2]
    assert ["CAList", "system", "True", "True"] in [line.split() for line in everything.splitlines()]


def test_for_machines_it_is_a_list_of_all_resources_with_the_screen_beside_it(running: Upped) -> None:
    seen = json.loads(well("status", "-o", "json", *options(running)).stdout)
    assert yaml.safe_load(well("status", "-o", "yaml", *options(running)).stdout).keys() == seen.keys()
    assert seen["kind"] == "List"
    assert {one["kind"] for one in seen["items"]} >= {"MailGateway", "Listener", "Certificate", "CAList"}
    found = seen["overview"]
    assert set(found) == {
        *("served", "gateways", "members", "listeners", "destinations", "certificates", "queue", "attention")
    }
    assert found["served"] is True
    [member] = found["members"]
    assert (member["name"], member["current"], member["queue"]) == ("default-0", True, 1)
    assert found["queue"]["domains"] == [{"domain": "example.com", "recipients": 1}]
    [trouble] = found["destinations"]
    assert (trouble["domain"], trouble["reason"]) == ("example.com", "Unreachable")
    ends = [one["notAfter"] for one in found["certificates"]]
    assert len(ends) == 2
    assert ends == sorted(ends)


def test_colours_are_for_terminals_and_not_where_they_are_not_wanted(running: Upped) -> None:
    def on_terminal(**environment: str) -> bytes:
        ours, theirs = pty.openpty()
        without = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        command = [*COMMAND, "status", *options(running)]
        process = subprocess.Popen(
            command, stdout=theirs, stderr=theirs, env=without | {"TERM": "xterm"} | environment
        )
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 4096):
                text += piece
        except OSError:
            pass  # the other side is closed: that is how a terminal ends
        os.close(ours)
        assert process.wait(60) == 0, text
        return text

    coloured = on_terminal()
    assert b"\x1b[32mTrue\x1b[0m" in coloured
    assert b"\x1b" not in on_terminal(NO_COLOR="1")
    assert b"\x1b" not in on_terminal(TERM="dumb")


def test_what_is_not_served_is_not_said_to_run(running: Upped, tmp_path: Path) -> None:
    running.stop()
    try:
        shown = well("status", *options(running)).stdout
        found = json.loads(well("status", "-o", "json", *options(running)).stdout)["overview"]
    finally:
        running.start()
    assert "`letterlock up` does not run on this folder" in shown
    assert found["served"] is False
    assert [one["current"] for one in found["members"]] == [False]
    assert {(one["programmed"], one["listening"]) for one in found["listeners"]} == {("False", 0)}
    assert {one["programmed"] for one in found["gateways"]} == {"False"}
    assert found["queue"]["recipients"] == 1, "the spool can be read all the same"
    assert "no state in" in letterlock("status", "--dir", tmp_path).error


def condition(kind: str, status: str, reason: str, message: str = "why") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def thing(kind: str, name: str, *conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": name},
        "spec": {},
        "status": {"conditions": list(conditions), **status},
    }


def test_each_thing_asks_once_and_every_warning_that_stands_is_named() -> None:
    found = [
        thing(
            "Certificate",
            "a",
            condition("Accepted", "False", "KeyMismatch"),
            condition("Programmed", "False", "KeyMismatch"),
            condition("WeakKey", "True", "WeakKey"),
            condition("Issuing", "True", "Issuing"),
        ),
        thing("DestinationControl", "quiet", condition("Delivering", "Unknown", "NoTraffic")),
        thing("Listener", "new"),
    ]
    asked = [(one["name"], one["reason"]) for one in overview(found, {})["attention"]]
    assert asked == [("new", "Pending"), ("a", "KeyMismatch"), ("a", "WeakKey")]


def test_a_member_behind_is_not_up_to_date_and_mail_of_one_that_has_gone_is_counted() -> None:
    gateway = thing(
        "MailGateway",
        "default",
        snapshot="new",
        members=[
            {"name": "default-0", "snapshot": "new", "queue": 7},
            {"name": "default-1", "snapshot": "old", "queue": 2},
            {"name": "default-2", "problems": ["does not answer"]},
        ],
    )
    queues: dict[str, dict[str, Any]] = {
        "default-0": {"recipients": 8, "oldest": "2026-05-01T10:00:00Z", "domains": []},
        "default-7": {"recipients": 1, "oldest": "2026-05-01T09:00:00Z", "domains": []},
    }
    seen = overview([gateway], queues)
    assert [one["current"] for one in seen["members"]] == [True, False, False]
    assert (seen["queue"]["recipients"], seen["queue"]["complete"]) == (8 + 2 + 1, False)
    assert seen["queue"]["oldest"] == "2026-05-01T09:00:00Z"


@pytest.mark.parametrize(
    ("since", "words"),
    [
        ("2026-05-01T11:59:59Z", "1s"),
        ("2026-05-01T11:50:00Z", "10m"),
        ("2026-05-01T09:00:00Z", "3h"),
        ("2026-04-01T12:00:00Z", "30d"),
        ("2026-05-01T12:00:09Z", "0s"),
        (None, "-"),
    ],
)
def test_ages_are_short(since: str | None, words: str) -> None:
    assert age(since, NOW) == words
