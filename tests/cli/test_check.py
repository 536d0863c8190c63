"""`letterlock check` on a running `letterlock up`: from here and beside its member, in words and for machines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from letterlock_cli.main import app
from tests.cli.test_queue import letterlock
from tests.cli.test_up import mailbox
from tests.cli.upped import Upped, quickstart, receiver


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Upped]:
    """The quickstart, started; nobody receives."""
    with quickstart(tmp_path) as run:
        run.start()
        run.programmed()
        yield run


def asked(run: Upped, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """The findings of a check as JSON; it must end with this status. In this process: it starts sooner."""
    where = ("--dir", str(run.folder), "--state", str(run.state), "-o", "json")
    done = CliRunner().invoke(app, ["check", *arguments, *where])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


# The names that docs/commands.md promises.
FINDINGS = {"from", "domain", "mode", "delivered", "verdict", "policy", "problem", "nextHops", "modes"}


def letterlock_checks(run: Upped, *arguments: str, status: int = 0) -> str:
    done = letterlock(run, "check", *arguments, status=status, errors=0)
    return done.stdout


def handshake(found: dict[str, Any]) -> dict[str, Any]:
    """TLS of the one address of `localhost` that somebody listens at."""
    [tls] = [one["tls"] for one in found["nextHops"][0]["connections"] if one["tls"]]
    return tls


def test_every_step_is_explained_and_the_exit_status_tells(running: Upped) -> None:
    words = letterlock_checks(running, "example.com", status=1)
    assert f"route 0 localhost port {running.receiver_port}" in words
    assert "! " in words
    assert "no connection" in words
    assert "example.com under RequiredVerify: not delivered, it waits and is tried again (4.4.1)" in words
    assert "firewall" in words
    with receiver(running):
        words = letterlock_checks(running, "Someone@EXAMPLE.com")
        for step in (
            "policy       RequiredVerify, of DestinationControl example-com (entry example.com)",
            "greeting     220",
            "STARTTLS     220",
            "handshake    TLSv1.3 TLS_AES_256_GCM_SHA384, SNI localhost",
            "chain 0      CN=*.example.com, issued by CN=*.example.com",
            "asked for example.com (the recipient domain)",
            "verified: name example.com matches",
        ):
            assert step in words, step
        verified = "delivered encrypted to localhost [127.0.0.1], verified by example.com"
        assert f"* RequiredVerify                {verified}" in words
        assert "  No                            delivered in clear text to localhost [127.0.0.1]" in words
        for where in ([], ["--inside"], ["--member", "default-0"]):
            [found] = asked(running, "example.com", *where)
            assert found["from"] == ("default-0" if where else "here")
            assert set(found) == FINDINGS
            assert found["delivered"]
            assert "behind" not in found
            assert found["verdict"]["matchedName"] == "example.com"
            assert handshake(found)["protocol"] == "TLSv1.3"
        [elsewhere] = asked(running, "elsewhere.example", "--mode", "RequiredVerify", "--inside", status=1)
        assert elsewhere["policy"]["resource"] == "everything-else"
        assert elsewhere["verdict"]["result"] == "NameMismatch"
        hosted = ("--mode", "RequiredVerifyHostedDomains", "--route", f"localhost:{running.receiver_port}")
        [other] = asked(running, "elsewhere.example", *hosted, status=1)
        [judged] = [
            one for one in handshake(other)["checked"] if "RequiredVerifyHostedDomains" in one["modes"]
        ]
        assert [one["source"] for one in judged["asked"]] == ["Recipient", "Route"]
        assert mailbox(running) == []
    assert (
        "no MailGateway other"
        in letterlock(running, "check", "a.example", "--gateway", "other", status=1).stderr
    )
    assert (
        "no member other-0"
        in letterlock(running, "check", "a.example", "--member", "other-0", status=1).stderr
    )
    running.stop()
    done = letterlock(running, "check", "example.com", "--inside", status=1)
    assert "does `letterlock up` run?" in done.stderr
    letterlock_checks(running, "example.com", status=1)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["not a domain"],
        ["a..example"],
        ["[192.0.2.300]"],
        ["example.com", "--route", "nowhere"],
        ["example.com", "--route", "nowhere:99999"],
        ["example.com", "--route", "2001:db8::1:25"],
        ["example.com", "--mode", "Default"],
        ["example.com", "--timeout", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_from_a_bad_verdict(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["check", *arguments])
    assert done.exit_code == 2
    assert "Usage: " in done.output
