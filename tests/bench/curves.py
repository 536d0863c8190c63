"""What a message costs by its size, by the number of clients, by the key of the listener, and with a long queue."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from trustme import KeyType

from letterlock_api.snapshot import RetrySchedule
from tests.bench import plots, relays, rounds
from tests.bench.relays import Subject
from tests.bench.report import Report
from tests.bench.rounds import Round, Scenario
from tests.bench.sink import Sink
from tests.gateway.test_large_queue import fill

_KIB: Final = 1024
_SIZES: Final = (1, 4, 16, 64, 256, 1024, 2048, 10240)  # KiB
_CLIENTS: Final = (1, 5, 20, 100, 500)
_QUEUES: Final = (0, 10_000, 100_000)
# Seconds until what fills a queue is due: later than any run ends.
_LATER: Final = 50_000
_DAY: Final = 86_400.0


def sizes(report: Report, messages: int) -> None:
    """By the size of a message; `messages` of 4 KB in a round, fewer of larger ones."""
    scenarios = {kib: _scenario(kib, messages) for kib in _SIZES}
    _beside("Size of a message, KiB", scenarios, KeyType.ECDSA, report)


def clients(report: Report, messages: int) -> None:
    """By the number of clients at a time."""
    scenarios = {number: Scenario(max(messages, 2 * number), clients=number) for number in _CLIENTS}
    _beside("Clients at a time", scenarios, KeyType.ECDSA, report)


def keys(report: Report, messages: int) -> None:
    """By the listener's key."""
    for key_type in KeyType:
        name = f"Key of the listener: {key_type.name}"
        _beside(name, {20: Scenario(messages)}, key_type, report, plot=False)


def _scenario(kib: int, messages: int) -> Scenario:
    """No more than 200 MiB in a round."""
    return Scenario(max(20, min(messages, 200 * _KIB // kib)), size=kib * _KIB)


def _beside(
    name: str, scenarios: Mapping[int, Scenario], key_type: KeyType, report: Report, *, plot: bool = True
) -> None:
    report.heading(name)
    certificates = relays.Certificates.make(key_type)
    results: dict[str, dict[int, Round]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
        Sink(certificates.sink) as sink,
        relays.member(Path(folder), certificates, sink) as ours,
        relays.postfix(certificates, sink, tuned=True) as theirs,
    ):
        for subject in (ours, theirs):
            rounds.run(Scenario(100), subject, sink)
        for at, scenario in scenarios.items():
            for subject in (ours, theirs):
                try:
                    done = rounds.run(scenario, subject, sink)
                except rounds.IncompleteError as problem:  # too many clients for it, say
                    report.note(f"{subject.name}, {at}: {problem}")
                    continue
                results.setdefault(subject.name, {})[at] = done
                _tell(report, f"{subject.name}, {at}", done, name)
    if plot:
        plots.draw(report.path.parent, name, results)


def queues(report: Report, messages: int) -> None:
    """By the messages that wait meanwhile for what cannot be reached."""
    name = "Messages that wait meanwhile"
    report.heading(name)
    certificates = relays.Certificates.make()
    results: dict[int, Round] = {}
    with Sink(certificates.sink) as sink:
        for waiting in _QUEUES:
            with tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder:
                if waiting:
                    (Path(folder) / "spool").mkdir()
                    for worker in ("0", "1"):
                        fill(
                            Path(folder) / "spool" / worker,
                            waiting // 2,
                            since=time.time() + _LATER,
                            step=0.001,
                        )
                retry = RetrySchedule(initial=_DAY, max=_DAY)
                with relays.letterlock(Path(folder), certificates, sink, workers=2, retry=retry) as (
                    made,
                    relay,
                ):
                    assert made.process is not None
                    subject = Subject("Letterlock", relay.port, made.process.pid)
                    rounds.run(Scenario(100), subject, sink)
                    results[waiting] = rounds.run(Scenario(messages), subject, sink)
                    _tell(report, f"Letterlock, {waiting}", results[waiting], name)
    plots.draw(report.path.parent, name, {"Letterlock": results})


def _tell(report: Report, who: str, done: Round, scenario: str) -> None:
    report.single(f"{who}: relayed", done.relayed, "messages/s", scenario=scenario)
    report.single(f"{who}: processor time", done.spent, "ms/message", scenario=scenario)
    report.single(f"{who}: 99th percentile to the 250", done.p99, "ms", scenario=scenario)
