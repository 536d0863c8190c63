"""What cannot be beaten here: generator and sink alone, and sessions that end after the handshake."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import cost, load, relays
from tests.bench.load import Load
from tests.bench.report import Report
from tests.bench.sink import Sink


def measure(report: Report, sessions: int) -> None:
    """Measure both, empty sessions with each relay."""
    certificates = relays.Certificates.make()
    with (
        tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
        Sink(certificates.sink) as sink,
        relays.member(Path(folder), certificates, sink) as ours,
        relays.postfix(certificates, sink, tuned=True) as theirs,
    ):
        for messages in (1, 10):
            _sessions(report, f"generator to sink, {messages} a connection", sink.port, sessions, messages)
        _sessions(report, "generator to sink, empty sessions", sink.port, sessions, 0)
        for subject in (ours, theirs):
            _sessions(report, "", subject.port, 100, 0, told=False)

            def spent(pid: int = subject.pid) -> float:
                return cost.cpu_seconds(pid)

            _sessions(report, f"{subject.name}, empty sessions", subject.port, sessions, 0, spent=spent)


def _sessions(
    report: Report,
    what: str,
    port: int,
    number: int,
    messages: int,
    *,
    spent: Callable[[], float] | None = None,
    told: bool = True,
) -> None:
    before = spent() if spent else 0.0
    sent = load.run(
        Load(f"127.0.0.1:{port}", number, 20, 4096, messages, recipient=f"someone@{relays.DOMAIN}")
    )
    if sent.errors:
        raise RuntimeError(f"{len(sent.errors)} sessions failed, the first: {sent.errors[0]}")
    if not told:
        return
    unit = "messages/s" if messages else "handshakes/s"
    report.single(f"{what}: rate", sent.accepted / (sent.ended - sent.started), unit)
    report.single(f"{what}: processor time of the generator", 1000 * sent.cpu / number, "ms each")
    if spent:
        report.single(f"{what}: its own", 1000 * (spent() - before) / number, "ms each")
