"""Counters as Prometheus reads them (text format 0.0.4). Kept by the supervisor, served beside the health answers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Every metric, and what it counts. Labels never hold what strangers choose: a domain, an address, a reply.
_HELP: Final[Mapping[str, str]] = {
    "letterlock_tls_required_failures_total": "Attempts to deliver that failed in TLS, which was required.",
    "letterlock_alerts_total": "Alert messages that were put into the queue.",
}


@dataclass
class Metrics:
    """All counters of one member, since it started."""

    _counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = field(
        default_factory=Counter[tuple[str, tuple[tuple[str, str], ...]]]
    )

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """`amount` more of what `name` counts. Raises KeyError for a name that is not among the metrics."""
        _HELP[name]
        self._counts[name, tuple(sorted(labels.items()))] += amount

    def text(self) -> bytes:
        """All of them."""
        lines: list[str] = []
        for name, words in _HELP.items():
            lines += [f"# HELP {name} {words}", f"# TYPE {name} counter"]
            lines += [
                f"{name}{_labels(labels)} {value}"
                for (counted, labels), value in sorted(self._counts.items())
                if counted == name
            ]
        return "".join(f"{line}\n" for line in lines).encode()


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
