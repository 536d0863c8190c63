"""Messages per second, received and relayed, STARTTLS on both sides: Letterlock beside Postfix, as installed and tuned.

Rounds alternate, so that whatever the machine does beside this hits all alike; a ratio is that of one round to the
better Postfix of the same round.
"""

import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.bench import relays, rounds
from tests.bench.relays import Certificates, Subject
from tests.bench.report import Report
from tests.bench.rounds import Round, Scenario
from tests.bench.sink import Sink

_VALUES: Final[Mapping[str, tuple[str, Callable[[Round], float]]]] = {
    "received": ("messages/s", lambda one: one.received),
    "relayed": ("messages/s", lambda one: one.relayed),
    "99th percentile to the 250": ("ms", lambda one: one.p99),
    "processor time": ("ms/message", lambda one: one.spent),
}


def measure(scenarios: Mapping[str, Scenario], number: int, report: Report) -> None:
    """Run each scenario so many rounds, and report."""
    certificates = relays.Certificates.make()
    with Sink(certificates.sink) as sink, _subjects(certificates, sink) as subjects:
        for subject in subjects:  # caches, worker processes, first logs
            rounds.run(Scenario(100), subject, sink)
        for name, scenario in scenarios.items():
            _alternate(name, subjects, number, report, lambda one, of=scenario: rounds.run(of, one, sink))


def store(scenarios: Mapping[str, Scenario], number: int, report: Report) -> None:
    """The same to relays whose next hop is down."""
    certificates = relays.Certificates.make()
    with Sink(certificates.sink) as sink:
        pass
    with _subjects(certificates, sink) as subjects:
        for subject in subjects:
            rounds.store(Scenario(100), subject)
        for name, scenario in scenarios.items():
            _alternate(name, subjects, number, report, lambda one, of=scenario: rounds.store(of, one))


@contextmanager
def _subjects(certificates: Certificates, sink: Sink) -> Generator[list[Subject]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="letterlock-bench-"))
        yield [
            stack.enter_context(relays.member(Path(folder), certificates, sink)),
            stack.enter_context(relays.postfix(certificates, sink, tuned=False)),
            stack.enter_context(relays.postfix(certificates, sink, tuned=True)),
        ]


def _alternate(
    name: str, subjects: Sequence[Subject], number: int, report: Report, run: Callable[[Subject], Round]
) -> None:
    report.heading(name)
    results: dict[str, list[Round]] = {subject.name: [] for subject in subjects}
    for turn in range(number):
        for subject in [*subjects[turn % 3 :], *subjects[: turn % 3]]:
            done = run(subject)
            results[subject.name].append(done)
            report.note(
                f"round {turn + 1} {subject.name:<21} received {done.received:7.1f}/s"
                f"  relayed {done.relayed:7.1f}/s  p99 {done.p99:6.1f} ms"
                f"  CPU {done.spent:6.2f} ms/message, generator and sink {done.ends:5.2f}"
            )
    _tell(name, results, report)


def _tell(name: str, results: Mapping[str, Sequence[Round]], report: Report) -> None:
    relayed = all(one.relayed for several in results.values() for one in several)
    for who, several in results.items():
        for what, (unit, value) in _VALUES.items():
            if what == "relayed" and not relayed:
                continue
            report.series(f"{who}: {what}", [value(one) for one in several], unit, scenario=name)
    ours, *others = results.values()
    for what in ("received", "relayed") if relayed else ("received",):
        value = _VALUES[what][1]
        ratios = [value(one) / max(map(value, beside)) for one, *beside in zip(ours, *others, strict=True)]
        report.series(f"ratio to the better Postfix: {what}", ratios, "times", scenario=name)
