"""Messages per second, received and relayed, STARTTLS on both sides: Letterlock and Postfix in alternating rounds."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import cost, load, relays
from tests.bench.load import Load
from tests.bench.report import Report
from tests.bench.sink import Sink


@dataclass(frozen=True)
class Scenario:
    """How much, and how."""

    rounds: int
    messages: int
    clients: int = 20
    size: int = 4096
    per_connection: int = 1
    reuse: bool = False
    """Whether relays may send several messages over one connection to the next hop."""


@dataclass(frozen=True)
class Round:
    """One round of one relay."""

    received: float
    """Messages per second that got their 250."""
    relayed: float
    """Messages per second that reached the sink, from the first connection to the last message there."""
    p99: float
    """Milliseconds from a client's connect to its 250, of 99 in 100."""
    ends: float
    """CPU milliseconds a message, of load generator and sink together."""
    spent: float
    """CPU milliseconds a message, of all processes of the relay. Steadier than rates where others use the machine."""


class IncompleteError(RuntimeError):
    """A round in which not every message arrived: its numbers would mean nothing."""


def measure(scenario: Scenario, report: Report) -> None:
    """Run it and report."""
    certificates = relays.Certificates.make()
    results: dict[str, list[Round]] = {"Letterlock": [], "Postfix": []}
    with (
        tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
        Sink(certificates.sink) as sink,
        relays.letterlock(
            Path(folder), certificates, sink, messages_per_connection=50 if scenario.reuse else 1
        ) as (member, relay),
        relays.postfix(certificates, sink, reuse=scenario.reuse) as postfix,
    ):
        if member.process is None:
            raise IncompleteError("the member does not run")
        subjects = {
            "Letterlock": (relay.port, member.process.pid),
            "Postfix": (postfix.port, postfix.pid),
        }
        for port, pid in subjects.values():  # caches, worker processes, first logs
            _round(Scenario(1, 100), port, pid, sink)
        for number in range(scenario.rounds):
            # Who begins changes: whatever the machine does beside this hits both alike.
            order = list(subjects) if number % 2 == 0 else list(reversed(subjects))
            for name in order:
                done = _round(scenario, *subjects[name], sink)
                results[name].append(done)
                report.note(
                    f"round {number + 1} {name:<10} received {done.received:7.1f}/s"
                    f"  relayed {done.relayed:7.1f}/s  p99 {done.p99:6.1f} ms"
                    f"  CPU {done.spent:5.2f} ms/message, generator and sink {done.ends:4.2f}"
                )
    for name, rounds in results.items():
        more = {"reuse": scenario.reuse, "messages": scenario.messages, "clients": scenario.clients}
        suffix = "connections to the next hop kept" if scenario.reuse else "one connection a message"
        report.series(f"{name}, received", [one.received for one in rounds], "messages/s", **more)
        report.series(f"{name}, relayed ({suffix})", [one.relayed for one in rounds], "messages/s", **more)
        report.series(f"{name}, CPU ({suffix})", [one.spent for one in rounds], "ms/message", **more)


def _round(scenario: Scenario, port: int, pid: int, sink: Sink) -> Round:
    sink.reset()
    sink_before = sink.taken().cpu
    before = cost.cpu_seconds(pid)
    sent = load.run(
        Load(
            f"127.0.0.1:{port}",
            scenario.messages,
            scenario.clients,
            scenario.size,
            scenario.per_connection,
            f"someone@{relays.DOMAIN}",
        )
    )
    if sent.errors:
        raise IncompleteError(f"{len(sent.errors)} sessions failed, the first: {sent.errors[0]}")
    deadline = time.monotonic() + 120
    while (taken := sink.taken()).count < scenario.messages:
        if time.monotonic() > deadline:
            raise IncompleteError(f"only {taken.count} of {scenario.messages} messages reached the sink")
        time.sleep(0.02)
    return Round(
        received=sent.accepted / (sent.ended - sent.started),
        relayed=scenario.messages / (taken.last - sent.started),
        p99=1000 * sent.latency[2],
        ends=1000 * (sent.cpu + taken.cpu - sink_before) / scenario.messages,
        spent=1000 * (cost.cpu_seconds(pid) - before) / scenario.messages,
    )
