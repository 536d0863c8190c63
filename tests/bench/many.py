"""`make many`: 1,000 Certificates at once, and one more. What they cost the API server and the operator."""

import argparse
import sys
import tempfile
from pathlib import Path

import psutil

from tests.bench.report import Report
from tests.bench.rest import mebibytes
from tests.harness.apiserver import running
from tests.harness.crowds import Crowd, Writes


def main() -> None:
    """Measure without members, and then with one."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.many", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    count: int = parser.parse_args().count
    report = Report()
    for members in (False, True):
        report.heading(
            f"{count} self-signed certificates (RSA 2048) at once, {'a member' if members else 'no members'}"
        )
        measure(report, count, members)
    print(f"\nJSON lines: {report.path}")


def measure(report: Report, count: int, members: bool) -> None:
    """One crowd."""
    with (
        tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
        running() as server,
        server.fresh_namespace() as namespace,
        Crowd(server, namespace, Path(folder), members) as crowd,
    ):
        report.single("operator before", mebibytes(crowd.process.pid), "MiB")
        before, generation = Writes.so_far(crowd.kubectl), crowd.generation()
        report.single(f"{count} certificates Ready", crowd.all_ready(count), "s")
        made = Writes.so_far(crowd.kubectl).since(before)
        report.single("Secrets made, per certificate", made.secrets_made / count, "requests")
        report.single("Secrets replaced, per certificate", made.secrets_replaced / count, "requests")
        report.single("statuses written, per certificate", made.statuses / count, "requests")
        if members:
            crowd.until(lambda: crowd.having("Programmed") == count, "all Programmed")
            made = Writes.so_far(crowd.kubectl).since(before)
            report.single(
                "statuses written until Programmed, per certificate", made.statuses / count, "requests"
            )
        report.single("processor time of the operator, its makers aside", processor(crowd.process.pid), "s")
        report.single("operator after, makers included", mebibytes(crowd.process.pid), "MiB")
        report.single("operator at its highest (RSS)", highest(crowd.process.pid), "MiB")
        for seconds, worked, what in crowd.slowest():
            report.note(f"loop busy {1000 * seconds:.0f} ms, {1000 * worked:.0f} ms of its own: {what}")
        if members:
            process = crowd.kubelet.pod("default-0").process
            crowd.make(1, count)
            crowd.serve(count)
            assert crowd.kubelet.pod("default-0").process is process
        assert crowd.generation() == generation, "members are never restarted for a certificate"
        report.note("the StatefulSet has the generation that it had before")


def highest(pid: int) -> float:
    """MiB that a process has had at most (RSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    sys.exit(main())
