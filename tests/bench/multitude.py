"""`make many`, second part: 10,000 DestinationControls, 50 gateways with 1,000 Listeners, 1,000 Certificates.

Measured at a tenth, a third and the whole of it: time from nothing to rest, requests that the API server counts, memory
of the operator; then one change of each kind, and what it writes. The curve goes to build/bench.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from tests.bench.many import highest, processor
from tests.bench.report import Report
from tests.bench.rest import mebibytes
from tests.harness import requests
from tests.harness.apiserver import running
from tests.harness.multitudes import OBJECT, Multitude, Size

_WHOLE: Final = Size(controls=10_000, gateways=50, listeners=1_000, certificates=1_000)
_SHARES: Final = (10, 3, 1)
_TOLD: Final = 12
_CHANGES: Final[tuple[tuple[str, str, tuple[dict[str, Any], ...]], ...]] = (
    ("DestinationControl", "to-7", ({"tls": {"mode": "No"}}, {"tls": {"mode": "Required"}})),
    ("Listener", "in-0", ({"maxConcurrency": 77}, {"maxConcurrency": 78})),
    ("Certificate", "cert-0", ({"days": 99}, {"days": 98})),
)


def main() -> None:
    """Each share in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.multitude", description=__doc__)
    parser.add_argument("--shares", type=int, nargs="+", default=_SHARES, help="divisors of the whole")
    shares: list[int] = parser.parse_args().shares
    report = Report()
    found: dict[int, dict[str, float]] = {}
    for share in shares:
        size = _share(share)
        report.heading(
            f"{size.controls} destinations, {size.gateways} gateways, {size.listeners} listeners,"
            f" {size.certificates} certificates"
        )
        found[size.controls] = measure(report, size)
    print(f"\nJSON lines: {report.path}\ncurve: {draw(report.path.parent, found)}")


def _share(divisor: int) -> Size:
    gateways = max(_WHOLE.gateways // divisor, 1)
    each = _WHOLE.listeners // _WHOLE.gateways
    return Size(_WHOLE.controls // divisor, gateways, gateways * each, _WHOLE.certificates // divisor)


def measure(report: Report, size: Size) -> dict[str, float]:
    """One multitude. Gives what the curve shows."""
    with (
        tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
        running() as server,
        server.fresh_namespace() as namespace,
        Multitude(server, namespace, Path(folder), size) as many,
    ):
        began, before = time.monotonic(), requests.so_far(many.kubectl)
        many.fill()
        report.single("made", time.monotonic() - began, "s")
        many.converged()
        # Less the moments in which nothing is written any more: that is how rest is told.
        took = time.monotonic() - began
        report.single("at rest, from nothing", took, "s")
        made = requests.so_far(many.kubectl) - before
        for (verb, what), count in made.most_common(_TOLD):
            report.single(f"requests: {verb} {what}", count, "")
        spent = processor(many.process.pid)
        report.single("processor time of the operator", spent, "s")
        report.single("operator at rest", mebibytes(many.process.pid), "MiB")
        memory = highest(many.process.pid)
        report.single("operator at its highest (RSS)", memory, "MiB")
        changed = change(report, many)
        largest, what = many.largest()
        assert largest < OBJECT, what
        report.single(f"largest object: {what}", largest / 1024, "KiB")
    return {
        "from nothing, s": took,
        "one change, s": changed,
        "processor time, s": spent,
        "memory, MiB": memory,
    }


def change(report: Report, many: Multitude) -> float:
    """One change of each kind, twice. Gives the seconds that one of a destination takes, at best."""
    first: list[float] = []
    for kind, name, specs in _CHANGES:
        times: list[float] = []
        for spec in specs:
            before, spent = many.quiet(), processor(many.process.pid)
            times.append(many.change(kind, name, spec))
            made = many.quiet() - before
            statuses = requests.written(made, ("letterlock.dev/status",))
            report.single(f"{kind}: statuses written", statuses, "")
            report.single(
                f"{kind}: processor time until rest", 1000 * (processor(many.process.pid) - spent), "ms"
            )
        report.series(f"{kind}: one change until Programmed", times, "s")
        first = first or times
    return min(first)


def draw(folder: Path, found: dict[int, dict[str, float]]) -> Path:
    """Each value by the number of destinations. Gives the file."""
    names = list(next(iter(found.values())))
    figure = Figure(figsize=(4 * len(names), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        ordered = sorted(found.items())
        axes.plot([size for size, _ in ordered], [values[name] for _, values in ordered], marker="o")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("destinations")
        axes.set_ylabel(name)
        axes.grid(visible=True, alpha=0.3)
    path = folder / "multitude.png"
    figure.savefig(path, dpi=110)  # pyright: ignore[reportUnknownMemberType] - matplotlib leaves a type open
    return path


if __name__ == "__main__":
    sys.exit(main())
