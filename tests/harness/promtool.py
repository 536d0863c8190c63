"""The real promtool: what it says of metrics and rules. Taken from Debian's package by tests/harness/install.sh."""

import subprocess
from pathlib import Path
from typing import Final

from tests.harness.programs import MissingProgramError

PROGRAM: Final = Path("/opt/letterlock-prometheus/usr/bin/promtool")


def metrics_problems(text: str) -> str:
    """What is wrong with metrics as they are served; empty: nothing."""
    return _run("check", "metrics", stdin=text)


def rules_problems(file: Path) -> str:
    """What is wrong with a file of rules; empty: nothing."""
    return _run("check", "rules", str(file))


def failing_rules(file: Path) -> str:
    """What of a file of rule tests fails; empty: nothing."""
    return _run("test", "rules", str(file))


def _run(*arguments: str, stdin: str = "") -> str:
    if not PROGRAM.exists():
        raise MissingProgramError(f"{PROGRAM} is missing: run tests/harness/install.sh (on Debian, as root).")
    done = subprocess.run(
        (str(PROGRAM), *arguments), input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"status {done.returncode}"
