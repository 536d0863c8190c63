"""Plots of counts over time, as numbers that a template draws (SVG). Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from letterlock_gateway.spool.traffic import Series

WIDTH: Final = 520
HEIGHT: Final = 150
_LEFT: Final = 36  # for the numbers of the axis
_BOTTOM: Final = 22
_GAP: Final = 1.5


@dataclass(frozen=True)
class Bar:
    """A part of one step's bar."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Mark:
    """Text at an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Row:
    """One step in a table."""

    time: str
    values: Sequence[int]


@dataclass(frozen=True)
class Plot:
    """All that is drawn."""

    width: int
    height: int
    left: int
    bottom: int
    series: Sequence[Series]
    bars: Sequence[Bar]
    lines: Sequence[Mark]
    """Horizontal, with their numbers."""
    times: Sequence[Mark]
    rows: Sequence[Row]
    """The same as a table, without the steps in which nothing was."""
    empty: bool


def plot(series: Sequence[Series], start: float, step: float) -> Plot:
    """Stacked bars. `start`: of the first step, Unix seconds; `step` in seconds."""
    count = len(series[0].values)
    sums = [sum(one.values[index] for one in series) for index in range(count)]
    top = _nice(max(sums, default=0))
    floor = HEIGHT - _BOTTOM
    width = (WIDTH - _LEFT) / max(count, 1)
    bars: list[Bar] = []
    for index in range(count):
        y = float(floor)
        for one in series:
            value = one.values[index]
            if not value:
                continue
            height = max(value / top * (floor - 8), 1.0)
            y -= height
            label = f"{_clock(start + index * step)}: {value} {one.name.lower()}"
            bars.append(
                Bar(
                    one.kind,
                    round(_LEFT + index * width, 1),
                    round(y, 1),
                    round(width - _GAP, 1),
                    round(height, 1),
                    label,
                )
            )
    lines = [Mark(round(floor - part * (floor - 8), 1), _short(top * part)) for part in (0.0, 0.5, 1.0)]
    times = [
        Mark(round(_LEFT + index * width, 1), _clock(start + index * step))
        for index in range(count)
        if index % max(1, count // 8) == 0
    ]
    rows = [
        Row(_clock(start + index * step), [one.values[index] for one in series])
        for index in range(count)
        if sums[index]
    ]
    return Plot(WIDTH, HEIGHT, _LEFT, floor, series, bars, lines, times, rows, not rows)


def _nice(most: int) -> int:
    """The lowest even number of the kind 2, 4, 10, 20, 40, … that is not below `most`."""
    if most <= 2:
        return 2
    power = 10 ** math.floor(math.log10(most))
    return next(
        factor * power for factor in (1, 2, 4, 10) if factor * power >= most and factor * power % 2 == 0
    )


def _short(number: float) -> str:
    if number >= 1_000_000:
        return f"{number / 1_000_000:g}M"
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


def _clock(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M}"
