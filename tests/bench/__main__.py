"""`make bench`: all measurements, for people on stdout and as JSON lines in build/bench."""

import argparse
from typing import Final

from tests.bench import attacks, ceilings, curves, deciding, memory, propagation, rest, throughput
from tests.bench.report import Report
from tests.bench.rounds import Scenario

_CURVES: Final = {
    "sizes": curves.sizes,
    "clients": curves.clients,
    "keys": curves.keys,
    "queues": curves.queues,
}
# Bytes: larger messages would only measure the disk.
_LARGE: Final = 1 << 20
_PARTS: Final = ("throughput", "ceilings", *_CURVES, "memory", "rest", "deciding", "propagation", "attacks")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--only", choices=_PARTS, help="one part alone")
    wanted = parser.parse_args()
    rounds, messages = (2, 500) if wanted.quick else (5, 2000)
    report = Report()
    if wanted.only in (None, "throughput"):
        scenarios = {
            "4 KB from 20 clients, one a connection": Scenario(messages),
            "4 KB from 20 clients, ten a connection": Scenario(messages, per_connection=10),
            "2 MB from 20 clients": Scenario(messages // 10, size=2 << 20),
        }
        throughput.measure(scenarios, rounds, report)
        stored = {f"{name}, next hop down": one for name, one in scenarios.items() if one.size < _LARGE}
        throughput.store(stored, rounds, report)
    if wanted.only in (None, "ceilings"):
        report.heading("Ceilings: STARTTLS, 20 clients")
        ceilings.measure(report, messages)
    for part, measure in _CURVES.items():
        if wanted.only in (None, part):
            measure(report, messages)
    if wanted.only in (None, "memory"):
        report.heading("Memory")
        memory.measure(report)
    if wanted.only in (None, "rest"):
        report.heading("A member at rest")
        rest.measure(report, rounds)
    if wanted.only in (None, "deciding"):
        report.heading("One decision of the operator, 10,000 DestinationControls")
        deciding.measure(report)
    if wanted.only in (None, "propagation"):
        report.heading("Propagation, and the operator at rest")
        propagation.measure(report, 3 if wanted.quick else 20)
    if wanted.only in (None, "attacks"):
        report.heading(
            f"An honest client's session (STARTTLS, 1 KB) while {attacks.ATTACKERS} strangers attack"
        )
        attacks.measure(report, 2 if wanted.quick else 5)
    print(f"\nJSON lines: {report.path}")


if __name__ == "__main__":
    main()
