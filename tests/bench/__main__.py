"""`make bench`: all measurements, for people on stdout and as JSON lines in build/bench."""

import argparse

from tests.bench import attacks, propagation, rest, throughput
from tests.bench.report import Report
from tests.bench.throughput import Scenario


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parts = ("throughput", "rest", "propagation", "attacks")
    parser.add_argument("--only", choices=parts, help="one part alone")
    wanted = parser.parse_args()
    rounds, messages = (2, 500) if wanted.quick else (5, 2000)
    report = Report()
    if wanted.only in (None, "throughput"):
        report.heading("Messages of 4 KB from 20 clients, STARTTLS on both sides, a new connection for each")
        throughput.measure(Scenario(rounds, messages), report)
        throughput.measure(Scenario(rounds, messages, reuse=True), report)
    if wanted.only in (None, "rest"):
        report.heading("A member at rest")
        rest.measure(report, rounds)
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
