"""`letterlock init` (H3): what is asked in a real terminal, what it writes, and that it never writes half of it."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from letterlock_api import rules
from letterlock_cli.wizard import drafts, lookups
from letterlock_cli.wizard.answers import Answers
from tests.cli.commands import letterlock, well
from tests.cli.upped import COMMAND

_SECONDS = 90.0
FULL: dict[str, Any] = {
    "hostname": "mx{ordinal}.example.com",
    "domains": ["example.com", "example.org"],
    "nextHop": "store.example.net:2525",
    "organization": "Exämple: Ltd # no",
    "country": "NO",
    "listenerTLS": "No",
    "relayFrom": ["10.0.0.0/8", "fd00::/8"],
    "verifiedDomains": ["bank.example", "example.com"],
    "internetTLS": "No",
    "alertRecipients": ["ops@example.net"],
}
LEAST: dict[str, Any] = {
    "hostname": "mx.example.com",
    "domains": ["example.com"],
    "nextHop": "localhost:2526",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "least": LEAST,
    "full": FULL,
    "demo": LEAST | {"certificate": "demo", "httpsPort": 8443},
    "secret": LEAST | {"certificate": "secret", "certificateSecret": "mx-tls", "httpsPort": 8443},
}


@dataclass
class Terminal:
    """A person's side of a terminal."""

    end: int
    process: subprocess.Popen[bytes]
    seen: bytes = b""
    told: int = 0

    def until(self, words: str) -> None:
        """Read on until these words come."""
        while words.encode() not in self.seen[self.told :]:
            piece = self._read(_SECONDS)
            assert piece, f"no {words!r} in {self.seen.decode()}"
            self.seen += piece
        self.told = self.seen.index(words.encode(), self.told) + len(words)

    def answer(self, question: str, text: str) -> None:
        """Wait for the question and its prompt, then type."""
        self.until(question)
        self.until("> ")
        os.write(self.end, text.encode() + b"\n")

    def rest(self) -> int:
        """Read to the end; gives the exit status."""
        while piece := self._read(_SECONDS):
            self.seen += piece
        return self.process.wait(_SECONDS)

    def interrupt(self) -> None:
        """Ctrl-C until it ends: one that comes between the prompt and the reading behind it waits for the next key."""
        for _ in range(12):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
                return
        raise AssertionError(f"it does not end: {self.seen.decode()}")

    def _read(self, seconds: float) -> bytes:
        """What comes next; nothing: that is the end. Raises AssertionError after so many seconds."""
        ready, _, _ = select.select([self.end], [], [], seconds)
        assert ready, f"nothing more within {seconds} s: {self.seen.decode()}"
        try:
            return os.read(self.end, 4096)
        except OSError:
            return b""  # that is how a terminal ends


@contextmanager
def terminal(folder: Path, *arguments: str) -> Generator[Terminal]:
    ours, theirs = pty.openpty()
    environment = os.environ | {"NO_COLOR": "1", "TERM": "xterm"}
    # Shells start what runs in the background with SIGINT ignored, and this run of tests may be that.
    command = ["env", "--default-signal=INT", *COMMAND, "init", *arguments]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
        process.wait(60)


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    found = [one for path in sorted(folder.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]
    return {f"{one['kind']}/{one['metadata']['name']}": one["spec"] for one in found}


def test_it_asks_explains_takes_nothing_wrong_and_writes_what_was_said(tmp_path: Path) -> None:
    with terminal(tmp_path, "mail") as person:
        person.answer("name on the Internet", "mx example")
        person.until("! write a host name")
        person.answer("", "mx.example.com")
        person.answer("Domains that mail is taken for", "")
        person.answer("! an answer is needed", "example.com example.org")
        person.answer("Where their mail goes", "localhost:2626")
        person.until("localhost is ")
        person.answer("Certificate of the gateway", "none")
        person.answer("! ", "")
        person.answer("Organization", "Example Ltd")
        person.answer("Country", "de")
        person.answer("Port for mail", "2727")
        person.answer("TLS for mail that comes in", "Required")
        person.answer("Networks of your own", "ALL")
        person.answer("Port for mail from your own", "")
        person.answer("TLS towards the mail store", "Required")
        person.answer("Partners' domains", "bank.example, clinic.example")
        person.answer("TLS towards everybody else", "")
        person.answer("Addresses that are told", "ops@example.net")
        person.answer("Port of the web page", "")
        person.answer("! relayFrom: ALL would let the whole Internet send", "10.0.0.0/8")
        assert not (tmp_path / "mail").exists(), "nothing is written before the last answer"
        person.answer("What now?", "")
        assert person.rest() == 0, person.seen.decode()
    found = manifests(tmp_path / "mail")
    assert found["Certificate/mx"]["subject"] == {
        "commonName": "mx.example.com",
        "organization": "Example Ltd",
        "country": "DE",
    }
    assert found["Listener/public"]["defaultPolicy"] == {"tls": {"mode": "Required"}}
    assert found["Listener/public"]["recipients"] == [
        {"match": ["example.com", "example.org"], "action": "Accept"}
    ]
    assert found["Listener/private"]["senderGroups"][0]["senders"] == ["10.0.0.0/8"]
    assert found["DestinationControl/partners"]["domains"] == ["bank.example", "clinic.example"]
    assert found["DestinationControl/mail-store"]["routes"] == [{"host": "localhost", "port": 2626}]
    # The same again from its own answers.
    before = {path.name: path.read_text() for path in (tmp_path / "mail").iterdir()}
    well("init", tmp_path / "again", "--answers", tmp_path / "mail/init.answers")
    assert {path.name: path.read_text() for path in (tmp_path / "again").iterdir()} == before


def test_names_are_looked_up_and_what_is_not_found_stops_nobody() -> None:
    assert lookups.notes("next_hop", "127.0.0.1:2525", {}) == ["127.0.0.1 is 127.0.0.1"]
    assert lookups.notes("hostname", "mx{ordinal}.site.example", {}) == []
    [address] = lookups.notes("hostname", "mx.site.example", {})
    assert address.startswith("mx.site.example has no address here: ") or address == lookups.SILENT
    found = lookups.notes("domains", ["site.example"], {"hostname": "mx.site.example"})
    seen = "MX of site.example: none is seen from here; mail comes here once it names mx.site.example"
    assert found in ([seen], [lookups.SILENT])
    assert lookups.notes("port", 25, {}) == []


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    with terminal(tmp_path, "mail") as person:
        person.answer("name on the Internet", "mx.example.com")
        person.until("Domains that mail is taken for")
        person.until("> ")
        person.interrupt()
        assert person.rest() == 1
        assert b"error: stopped: nothing was written" in person.seen
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_when_somebody_says_so(tmp_path: Path) -> None:
    answers, folder = tmp_path / "answers", tmp_path / "mail"
    answers.write_text(yaml.safe_dump(LEAST))
    folder.mkdir()
    (folder / "listeners.yaml").write_text("# mine\n")
    (folder / "notes.txt").write_text("mine\n")
    refused = letterlock("init", folder, "--answers", answers)
    assert refused.error == f"{folder} has listeners.yaml already: give another folder, or --force"
    assert sorted(path.name for path in folder.iterdir()) == ["listeners.yaml", "notes.txt"]
    well("init", folder, "--answers", answers, "--force")
    assert manifests(folder)["Listener/public"]["port"] == 25
    assert (folder / "notes.txt").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hostname": "mx_1 example"}, "hostname: write a host name"),
        ({"nextHop": "store:99999"}, "nextHop: a port is a number from 1 to 65535"),
        ({"port": "smtp"}, "port: "),
        ({"certificate": "secret"}, "certificateSecret: name the Secret"),
        ({"relayFrom": ["all"]}, "relayFrom: ALL would let the whole Internet send through here"),
        ({"relayFrom": ["10.0.0.0/8"], "relayPort": 25}, "relayPort: choose another"),
        ({"httpsPort": 25}, "httpsPort: choose another"),
        ({"colour": "red"}, "colour: there is no such answer"),
        ({"domains": []}, "domains: "),
    ],
)
def test_wrong_answers_in_a_file_are_named_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    answers = tmp_path / "answers"
    answers.write_text(yaml.safe_dump(LEAST | changes))
    assert words in letterlock("init", tmp_path / "mail", "--answers", answers).error
    assert not (tmp_path / "mail").exists()


@pytest.mark.parametrize("answers", VARIANTS.values(), ids=VARIANTS)
def test_manifests_are_valid_and_every_file_explains_itself(answers: dict[str, Any]) -> None:
    for name, text in drafts.files(Answers.model_validate(answers)).items():
        assert text.startswith("# "), name
        assert max(map(len, text.splitlines())) <= 120
        for one in yaml.safe_load_all(text):
            assert rules.problems(rules.parse(one)) == [], name
        # As in the examples: kind after kind, each with a comment before it.
        assert all(part.startswith("# ") for part in re.split(r"^---\n", text, flags=re.MULTILINE))


def test_nobody_at_the_terminal_is_told_of_the_file() -> None:
    assert "--answers FILE" in letterlock("init").error
