"""Metrics as Prometheus reads them (text format 0.0.4): counters and gauges, in plain numbers.

Kept by the gateway's supervisor and by the operator, each with its own families; nothing is computed before somebody
asks. Labels are chosen by us or by who writes manifests, never by strangers, so that their number is bounded.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Series of one metric: what comes beyond them is left out, rather than remembered without end.
MOST_SERIES: Final = 20_000

type Labels = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One metric."""

    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


class Metrics:
    """All series of one program, since it started."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        self._families = families
        self._series: dict[str, dict[Labels, float]] = {name: {} for name in families}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """`amount` more of what `name` counts. Raises KeyError for what is not among the families."""
        self.add(name, self._values(name, labels), amount)

    def add(self, name: str, values: Labels, amount: float) -> None:
        """The same, with the labels' values in their order."""
        series = self._series[name]
        if values in series or len(series) < MOST_SERIES:
            series[values] = series.get(values, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """What `name` is now."""
        values = self._values(name, labels)
        series = self._series[name]
        if values in series or len(series) < MOST_SERIES:
            series[values] = value

    def gauges(self, name: str, series: Iterable[tuple[Labels, float]]) -> None:
        """All that `name` is now: series that are not among them end."""
        self._series[name] = dict(series)

    def drop(self, name: str, gone: Callable[[Labels], bool]) -> None:
        """End the series whose labels' values are `gone`."""
        self._series[name] = {key: one for key, one in self._series[name].items() if not gone(key)}

    def text(self) -> bytes:
        """All of them."""
        lines: list[str] = []
        for name, family in self._families.items():
            lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
            lines += [
                f"{name}{_labels(family.labels, values)} {_number(value)}"
                for values, value in sorted(self._series[name].items())
            ]
        return "".join(f"{line}\n" for line in lines).encode()

    def _values(self, name: str, labels: Mapping[str, str]) -> Labels:
        family = self._families[name]
        if set(labels) != set(family.labels):
            raise KeyError(f"{name} has the labels {family.labels}, not {tuple(labels)}")
        return tuple(labels[one] for one in family.labels)


def _labels(names: Labels, values: Labels) -> str:
    # An empty label is the same as none.
    pairs = ",".join(f'{key}="{_escaped(one)}"' for key, one in zip(names, values, strict=True) if one)
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
