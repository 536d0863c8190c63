"""Runs the operator as its own program against a test's API server and namespace."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.harness.waiting import until

# Longer than one request and the watches take to end.
_STOP_WITHIN: Final = 30.0


@contextlib.contextmanager
def operator(
    kubeconfig: Path,
    namespace: str,
    log: Path,
    *options: str,
    module: str = "letterlock_operator",
    environment: Mapping[str, str] | None = None,
) -> Generator[subprocess.Popen[bytes]]:
    """An operator that serves `namespace`; ended with SIGTERM. Raises AssertionError where it ends badly.

    `module`: the program, where it is not the operator itself; `environment`: added to this one's.
    """
    command = (sys.executable, "-W", "error", "-m", module, "--log-format", "text")
    # Nobody pulls it: members are run by the stand-in kubelet.
    command += ("--image", "letterlock:tests")
    command += ("--kubeconfig", str(kubeconfig), "--namespace", namespace, *options)
    with started(command, log, environment) as process, ended_well(process, log):
        until(
            lambda: process.poll() is not None or "serving" in log.read_text(),
            what=f"an operator that serves {namespace}",
        )
        assert process.poll() is None, f"the operator ended at once:\n{log.read_text()[-4000:]}"
        yield process


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """The command as a process, killed on leaving where it still runs. `environment`: added to this one's."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def ended_well(process: subprocess.Popen[bytes], log: Path) -> Generator[None]:
    """Ends the operator with SIGTERM on leaving. Raises AssertionError where it ends badly."""
    try:
        yield
    finally:
        process.terminate()
        try:
            status = process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            status = None
    assert status == 0, f"the operator ended with {status}:\n{log.read_text()[-4000:]}"
