"""The sink: takes every message over STARTTLS and forgets it, in a program of its own (`ends`)."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench import ends


@dataclass(frozen=True)
class Taken:
    """What came in since the last `reset`."""

    count: int
    last: float
    """When the last message came, Unix seconds."""
    cpu: float
    """Seconds that the sink itself has used since its start."""


class Sink:
    """A sink on a port of loopback. Use as a context manager."""

    def __init__(self, certificate: bytes) -> None:
        """`certificate`: PEM, key first."""
        self._certificate = certificate
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def taken(self) -> Taken:
        """What came in so far."""
        return Taken(**self._ask("count"))

    def reset(self) -> None:
        """Count from zero again."""
        self._ask("reset")

    def __enter__(self) -> Self:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sink.pem"
            path.write_bytes(self._certificate)
            self._process = subprocess.Popen(
                [ends.program(), "sink", "-certificate", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.port = int(str(self._answer()["address"]).rpartition(":")[2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.communicate(timeout=10)  # the end of its input is its end
            self._process = None

    def _ask(self, question: str) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the sink does not run")
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the sink does not run")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sink has ended with status {self._process.wait()}")
        return json.loads(line)
