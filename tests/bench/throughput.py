"""Messages per second, received and relayed, STARTTLS on both sides: Letterlock beside Postfix, as installed and tuned.

Rounds alternate, so that whatever the machine does beside this hits all alike; a ratio is that of one round to the
better Postfix of the same round.
"""

import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
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
    with Sink(certificates.sink) as sink, ExitStack() as ends:
        started = {name: ends.enter_context(start()) for name, start in _starts(certificates, sink).items()}
        for subject in started.values():  # caches, worker processes, first logs
            rounds.run(Scenario(100), subject, sink)
        for name, scenario in scenarios.items():
            _alternate(
                name,
                list(started),
                number,
                report,
                lambda who, of=scenario: rounds.run(of, started[who], sink),
            )


def store(scenarios: Mapping[str, Scenario], number: int, report: Report) -> None:
    """The same to relays whose next hop is down. Each round begins with an empty queue: it is not to be worked on."""
    certificates = relays.Certificates.make()
    with Sink(certificates.sink) as sink:
        pass
    starts = _starts(certificates, sink)

    def run(who: str, scenario: Scenario) -> Round:
        with starts[who]() as subject:
            rounds.store(Scenario(100), subject)
            return rounds.store(scenario, subject)

    for name, scenario in scenarios.items():
        _alternate(name, list(starts), number, report, lambda who, of=scenario: run(who, of))


def _starts(
    certificates: Certificates, sink: Sink
) -> dict[str, Callable[[], AbstractContextManager[Subject]]]:
    """How each relay is started, by its name."""

    @contextmanager
    def member() -> Generator[Subject]:
        with (
            tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
            relays.member(Path(folder), certificates, sink) as subject,
        ):
            yield subject

    return {
        "Letterlock": member,
        "Postfix, as installed": lambda: relays.postfix(certificates, sink, tuned=False),
        "Postfix, tuned": lambda: relays.postfix(certificates, sink, tuned=True),
    }


def _alternate(
    name: str, subjects: Sequence[str], number: int, report: Report, run: Callable[[str], Round]
) -> None:
    report.heading(name)
    results: dict[str, list[Round]] = {subject: [] for subject in subjects}
    for turn in range(number):
        for subject in [*subjects[turn % 3 :], *subjects[: turn % 3]]:
            done = run(subject)
            results[subject].append(done)
            relayed = f"  relayed {done.relayed:7.1f}/s" if done.relayed else ""
            report.note(
                f"round {turn + 1} {subject:<21} received {done.received:7.1f}/s{relayed}  p99 {done.p99:6.1f} ms"
                f"  CPU {done.spent:6.2f} ms/message, generator and sink {done.ends:5.2f}"
            )
    _tell(name, results, report)


def _tell(name: str, results: Mapping[str, Sequence[Round]], report: Report) -> None:
    relayed = all(one.relayed for several in results.values() for one in several)
    values = {what: one for what, one in _VALUES.items() if relayed or what != "relayed"}
    for who, several in results.items():
        for what, (unit, value) in values.items():
            report.series(f"{who}: {what}", [value(one) for one in several], unit, scenario=name)
    ours, *others = results.values()
    for what in [one for one in ("received", "relayed") if one in values]:
        value = values[what][1]
        ratios = [value(one) / max(map(value, beside)) for one, *beside in zip(ours, *others, strict=True)]
        report.series(f"ratio to the better Postfix: {what}", ratios, "times", scenario=name)
