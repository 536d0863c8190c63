"""Pictures of the curves: processor time and rate over what was varied, one PNG a curve, beside the JSON lines."""

import re
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from tests.bench.rounds import Round


def draw(folder: Path, name: str, results: Mapping[str, Mapping[int, Round]]) -> Path:
    """Both values, by what was varied, a line for each relay. Gives the file."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    spent, relayed = figure.subplots(1, 2)
    for who, by in results.items():
        spent.plot(list(by), [one.spent for one in by.values()], marker="o", label=who)
        relayed.plot(list(by), [one.relayed for one in by.values()], marker="o", label=who)
    for axes, label in ((spent, "processor time, ms a message"), (relayed, "relayed, messages a second")):
        axes.set_xscale("symlog")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(name)
        axes.set_ylabel(label)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    path = folder / f"{re.sub(r'[^a-z]+', '-', name.lower())}.png"
    figure.savefig(path, dpi=110)  # pyright: ignore[reportUnknownMemberType] - matplotlib leaves a type open
    return path
