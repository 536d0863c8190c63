"""One gateway member as a process of its own, on a mount that the test writes.

`Member` starts `python -m letterlock_gateway` in a process group of its own, asks it for its state as the
operator does, and ends it gently, or as a power cut does.
"""

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from letterlock_api.state import INTERNAL_SERVER_NAME, STATE_PATH, DestinationState, MemberState
from tests.harness import ports, waiting
from tests.harness.mounts import Internal, Mount

# Seconds for its answer: it may have much else to do on a loaded machine.
_ANSWER: Final = 30


def named(process: psutil.Process) -> str:
    """The name of a process; empty where it has just ended."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


class Member:
    """A member on `directory/mount` with its spool in `directory/spool`. Use as a context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "default-0",
        workers: int = 0,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        beside: "Member | None" = None,
        address: str = "127.0.0.1",
    ) -> None:
        """`workers` 0: one per processor. `options` are added to the command line as they stand.

        `beside`: another member of the same gateway; then `address` has to be another one.

        `environment`: of the process, instead of the test's own.
        """
        self.internal = beside.internal if beside is not None else Internal()
        self.address = address
        self.mount = Mount.with_identity(directory / "mount", self.internal)
        self.spool = directory / "spool"
        self.log_file = directory / "member.log"
        self.name = name
        self.state_port = beside.state_port if beside is not None else ports.free_port(address)
        self.health_port = beside.health_port if beside is not None else ports.free_port(address)
        self.process: subprocess.Popen[bytes] | None = None
        self._workers = workers
        self._options = tuple(options)
        self._environment = environment
        identity = directory / "operator.pem"
        identity.write_bytes(self.internal.operator_identity())
        self._context = ssl.create_default_context(cadata=self.internal.authority.pem.decode())
        self._context.load_cert_chain(identity)

    def start(self) -> Self:
        """Start it; `wait_ready` waits for it."""
        command = [sys.executable, "-m", "letterlock_gateway"]
        command += ["--mount", str(self.mount.directory), "--spool", str(self.spool), "--member", self.name]
        command += ["--address", self.address, "--state-address", self.address]
        command += ["--state-port", str(self.state_port), "--health-port", str(self.health_port)]
        command += ["--workers", str(self._workers), *self._options]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=self._environment
            )
        return self

    def wait_ready(self, *, seconds: float = 30) -> Self:
        """Return once every worker runs a snapshot. Raises TimeoutError."""
        waiting.until(self.ready, seconds=seconds, what=f"{self.name} ready", every=0.02)
        return self

    def ready(self) -> bool:
        """What `/readyz` says. Raises RuntimeError when the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"the member has ended with status {self.process.returncode}")
        url = f"http://{self.address}:{self.health_port}/readyz"
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(url, timeout=_ANSWER) as answer,
        ):
            return answer.status == 200
        return False

    def metrics(self) -> str:
        """What `/metrics` says."""
        with urllib.request.urlopen(
            f"http://{self.address}:{self.health_port}/metrics", timeout=_ANSWER
        ) as answer:
            return answer.read().decode()

    def wait_running(self, snapshot: str, *, seconds: float = 30) -> Self:
        """Return once it says that it runs the snapshot of this hash. Raises TimeoutError with its state."""

        def runs() -> bool:
            state = self.state()
            return state is not None and state.snapshot == snapshot

        try:
            waiting.until(runs, seconds=seconds, every=0.02, what=f"snapshot {snapshot} running")
        except TimeoutError as problem:
            raise TimeoutError(f"{problem}; state: {self.state()}") from None
        return self

    def state(self) -> MemberState | None:
        """What it says of itself; None: no answer."""
        connection = _Connection(self.address, self.state_port, context=self._context, timeout=_ANSWER)
        try:
            connection.request("GET", STATE_PATH)
            return MemberState.model_validate_json(connection.getresponse().read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def destination(self, resource: str = "") -> DestinationState | None:
        """What became of deliveries of this DestinationControl; None: it has not said."""
        state = self.state()
        return next((one for one in state.destinations if one.resource == resource), None) if state else None

    def queue(self) -> int | None:
        """Recipients in its queue; None: it has not said."""
        state = self.state()
        return state.queue if state else None

    def log(self) -> list[dict[str, Any]]:
        """Every line of its mail log; what is no JSON has only a `message`."""
        entries: list[dict[str, Any]] = []
        for line in self.log_file.read_text(errors="replace").splitlines() if self.log_file.exists() else ():
            try:
                entries.append(json.loads(line))
            except ValueError:
                entries.append({"message": line, "level": "stderr"})
        return entries

    def logged(self, words: str) -> bool:
        """Whether `words` stand in a line of the mail log."""
        return any(words in str(entry.get("message", "")) for entry in self.log())

    def use_workers(self, count: int) -> None:
        """So many from the next start on."""
        self._workers = count

    def worker_pids(self) -> list[int]:
        """Its worker processes that run now."""
        if self.process is None:
            return []
        below = psutil.Process(self.process.pid).children(recursive=True)
        return sorted(one.pid for one in below if named(one).startswith("letterlock-w"))

    def kill_worker(self, pid: int) -> None:
        """End one of `worker_pids` at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def kill9(self) -> None:
        """End supervisor and workers at once, as a power cut does; start it again with `start`."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self, *, seconds: float = 30) -> int:
        """Ask it to end, and give its exit status. What is left of it after `seconds` is killed."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            status = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            status = -1
        self.kill9()
        return status

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # pytest shows this with the failure
            text = self.log_file.read_text(errors="replace")
            print(f"--- log of {self.name} (its end) ---\n{text[-20000:]}\n--- state ---\n{self.state()}")
        self.stop()


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address, verified against the fixed name that members prove."""

    def __init__(self, address: str, port: int, *, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(address, port, timeout=timeout)
        self._verifying = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._verifying.wrap_socket(self.sock, server_hostname=INTERNAL_SERVER_NAME)
