"""What a member costs while nothing happens, and how long it takes to start."""

import tempfile
import time
from pathlib import Path

import psutil

from tests.bench import relays
from tests.bench.report import Report
from tests.bench.sink import Sink
from tests.cli.upped import Upped, quickstart
from tests.harness.waiting import until


def measure(report: Report, rounds: int) -> None:
    """Start a member some times; note the time until it accepts connections, and its memory then."""
    certificates = relays.Certificates.make()
    starts: list[float] = []
    memory: list[float] = []
    with Sink(certificates.sink) as sink:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder:
                began = time.monotonic()
                with relays.letterlock(Path(folder), certificates, sink, messages_per_connection=1) as (
                    member,
                    _relay,
                ):
                    starts.append(time.monotonic() - began)
                    assert member.process is not None
                    memory.append(mebibytes(member.process.pid))
    report.series("member: from exec to a snapshot that runs", starts, "s")
    report.series("letterlock up: from exec to a Programmed listener that answers", _ups(rounds), "s")
    report.series("member at rest, all its processes", memory, "MiB")


def _ups(rounds: int) -> list[float]:
    """The quickstart, each time with a state of its own: keys are made, a demo certificate, the system's CA list."""
    starts: list[float] = []
    for _ in range(rounds):
        with (
            tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
            quickstart(Path(folder)) as run,
        ):
            began = time.monotonic()
            run.start()
            until(lambda run=run: _serves(run), seconds=60, every=0.02, what="a listener that is Programmed")
            starts.append(time.monotonic() - began)
    return starts


def _serves(run: Upped) -> bool:
    programmed = run.condition("Listener", "public", "Programmed").get("status") == "True"
    return programmed and run.offers_starttls() is True


def mebibytes(pid: int) -> float:
    """Memory of a process and all below it; what they share is counted once (PSS)."""
    whole = psutil.Process(pid)
    return sum(one.memory_full_info().pss for one in [whole, *whole.children(recursive=True)]) / 2**20
