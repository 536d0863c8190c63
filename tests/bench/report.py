"""What the bench says: lines for people on stdout, and the same as JSON lines in build/bench."""

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parents[2] / "build" / "bench"


class Report:
    """One run."""

    def __init__(self) -> None:
        _FOLDER.mkdir(parents=True, exist_ok=True)
        self.path = _FOLDER / time.strftime("%Y%m%dT%H%M%SZ.jsonl", time.gmtime())
        self._record(
            {
                "what": "machine",
                "cpus": os.cpu_count(),
                "kernel": platform.release(),
                "python": platform.python_version(),
            }
        )
        print(
            f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}\n"
        )

    def heading(self, text: str) -> None:
        """A new part."""
        print(f"\n{text}\n{'-' * len(text)}")

    def note(self, text: str) -> None:
        """A line for people only."""
        print(f"  {text}", flush=True)

    def single(self, what: str, value: float, unit: str, **more: object) -> None:
        """One measured value."""
        self._record({"what": what, "value": value, "unit": unit, **more})
        print(f"  {what:<58} {value:>9.1f} {unit}", flush=True)

    def series(self, what: str, values: Sequence[float], unit: str, **more: object) -> None:
        """Several rounds of the same."""
        middle = statistics.median(values)
        self._record({"what": what, "values": list(values), "median": middle, "unit": unit, **more})
        low, high = min(values), max(values)
        three = f"{low:>9.2f} /{middle:>9.2f} /{high:>9.2f} {unit}"
        print(f"  {what:<58} {three}  (min/median/max of {len(values)})", flush=True)

    def _record(self, values: dict[str, object]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
