"""A real `letterlock up` on a copy of the quickstart, with ports of its own and the receiver of the examples."""

import shutil
import signal
import smtplib
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from tests.harness.ports import free_port, wait_for_listener
from tests.harness.waiting import until

ROOT: Final = Path(__file__).resolve().parents[2]
QUICKSTART: Final = ROOT / "examples/quickstart"
COMMAND: Final = (sys.executable, "-m", "letterlock_cli")


@dataclass
class Upped:
    """One run, and what it works on."""

    folder: Path
    state: Path
    listener_port: int
    receiver_port: int
    workers: int = 1
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start `letterlock up`; its output goes to files beside the state."""
        arguments = ["up", str(self.folder), "--state", str(self.state), "--workers", str(self.workers)]
        beside = self.state.parent
        with (beside / "stdout").open("ab") as stdout, (beside / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen([*COMMAND, *arguments], stdout=stdout, stderr=stderr)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it; gives its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    @property
    def stderr(self) -> str:
        """What it has said there so far."""
        return (self.state.parent / "stderr").read_text()

    @property
    def stdout(self) -> str:
        """What it has said there so far."""
        return (self.state.parent / "stdout").read_text()

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """The resource's status as written in the state; empty: none yet."""
        path = self.state / "status" / kind / f"{name}.yaml"
        loaded: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {}
        return loaded.get("status", {})

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        """One condition; empty: none yet."""
        found = [one for one in self.status(kind, name).get("conditions", []) if one["type"] == condition]
        return found[0] if found else {}

    def programmed(self) -> None:
        """Wait until every resource of the quickstart is Programmed."""
        for kind, name in (
            ("MailGateway", "default"),
            ("Certificate", "mx"),
            ("Certificate", "mailbox"),
            ("Listener", "public"),
            ("DestinationControl", "example-com"),
            ("DestinationControl", "everything-else"),
            ("CAList", "mailbox"),
            ("CAList", "system"),
        ):
            until(
                lambda kind=kind, name=name: self.condition(kind, name, "Programmed").get("status") == "True",
                what=f"{kind}/{name} Programmed",
                seconds=60,
            )

    def edit(self, file: str, before: str, after: str) -> None:
        """Replace a text in a manifest that holds it exactly once."""
        text = (self.folder / file).read_text()
        assert text.count(before) == 1, f"{file} holds {before!r} {text.count(before)} times"
        (self.folder / file).write_text(text.replace(before, after))

    def offers_starttls(self) -> bool | None:
        """Whether a new connection is offered STARTTLS; None: there is no connection to be had."""
        try:
            with smtplib.SMTP(
                "127.0.0.1", self.listener_port, local_hostname="client.example", timeout=30
            ) as client:
                client.ehlo()
                return client.has_extn("starttls")
        except (ConnectionError, smtplib.SMTPServerDisconnected):
            return None

    def members(self) -> list[psutil.Process]:
        """All processes below `letterlock up` now."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def quickstart(directory: Path) -> Generator[Upped]:
    """A copy of the quickstart, with free ports, not started yet. Whatever runs at the end is ended."""
    folder = directory / "quickstart"
    shutil.copytree(QUICKSTART, folder)
    run = Upped(folder, directory / "state", free_port(), free_port())
    run.edit("listener.yaml", "port: 2525", f"port: {run.listener_port}\n  address: 127.0.0.1")
    text = (folder / "destination.yaml").read_text()
    (folder / "destination.yaml").write_text(text.replace("port: 2526", f"port: {run.receiver_port}"))
    try:
        yield run
    finally:
        if hasattr(run, "process") and run.process.poll() is None:
            run.stop(signal.SIGTERM)


@contextmanager
def receiver(run: Upped) -> Generator[None]:
    """The receiver of the examples, on the state of `run`."""
    program = [sys.executable, str(ROOT / "examples/receiver.py"), str(run.state), str(run.receiver_port)]
    with (run.state.parent / "receiver").open("ab") as output:
        process = subprocess.Popen(program, stdout=output, stderr=output)
    try:
        # What is tried now, and perhaps not again for an hour, must find somebody there.
        wait_for_listener(run.receiver_port)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
