"""Builds the program that is both ends of the bench (`tests/bench/ends`, in Go), once for each state of its source.

A load generator in Python costs as much of the machine as the relay that it measures, and then says more of itself.
"""

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("ends")


@cache
def program() -> str:
    """The built program. Raises RuntimeError with what is missing."""
    source = b"".join(path.read_bytes() for path in sorted(_SOURCE.iterdir()))
    built = _cache() / f"ends-{hashlib.sha256(source).hexdigest()[:16]}"
    if built.exists():
        return str(built)
    if shutil.which("go") is None:
        raise RuntimeError("the bench needs Go 1.24 or later on the PATH, for its load generator")
    built.parent.mkdir(parents=True, exist_ok=True)
    fresh = built.with_suffix(f".{os.getpid()}")
    environment = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", str(fresh), "."], cwd=_SOURCE, env=environment, check=True)
    fresh.rename(built)
    return str(built)


def _cache() -> Path:
    """As the Kubernetes programs of the tests: outside the clone."""
    if own := os.environ.get("LETTERLOCK_CACHE"):
        return Path(own) / "bench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "letterlock" / "bench"
