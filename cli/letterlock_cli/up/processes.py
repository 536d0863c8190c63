"""Runs the gateway members of `letterlock up` as child processes: starts them, starts them again, ends them.

Called by `reconcile`. A member is `letterlock gateway`, exactly as a pod runs it; only its state and health
ports differ, because several members share this machine.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

LOOPBACK: Final = "127.0.0.1"
# Seconds before a member that died is started again: at once the first time, then slower, so that one that
# cannot run at all does not keep the machine busy.
_RESTART_DELAYS: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
_LONG_ENOUGH: Final = 30.0  # seconds of life after which the next death counts as a first one
# Members give sessions in progress 10 s at SIGTERM; a little more, and then they are killed.
_STOP_SECONDS: Final = 15.0
_LOG_LIMIT: Final = 64 << 20  # bytes; then the log moves to `.1`
# asyncio's limit of one line: the longest log lines carry TLS errors and lists of names, far below this.
_LINE_LIMIT: Final = 1 << 20

type Warn = Callable[[str], None]


@dataclass(frozen=True)
class Launch:
    """What one member is started with."""

    member: str
    mount: Path
    spool: Path
    log: Path
    workers: int | None = None


class MemberProcess:
    """One member, kept running from `start` to `stop`."""

    def __init__(self, launch: Launch, warn: Warn) -> None:
        self.launch = launch
        self.state_port = 0
        self.was_ready = False
        """Whether it has been ready since it was started; kept by whoever polls it."""
        self._warn = warn
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def running(self) -> bool:
        """Whether the process is there now."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Its process id; None: it is not running."""
        return self._process.pid if self._process and self.running else None

    def start(self) -> None:
        """Begin to keep it running."""
        self._task = asyncio.create_task(self._keep_running(), name=f"member {self.launch.member}")

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL only if it does not leave in time."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                self._warn(f"{self.launch.member} did not stop within {_STOP_SECONDS:.0f} s and was killed")
                process.kill()
        if self._task is not None:
            # The task reads the log to its end and ends too; one that waits to start the member is cancelled.
            if not self.running:
                await asyncio.wait({self._task}, timeout=2)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_running(self) -> None:
        deaths = 0
        while not self._stopping:
            started, self.was_ready = time.monotonic(), False
            self.state_port, health_port = free_ports(2)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command(self.launch, self.state_port, health_port),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=PIPE,
                    stderr=STDOUT,
                    limit=_LINE_LIMIT,
                    # Ctrl-C in a terminal goes to the whole foreground group: we take it, and end members.
                    start_new_session=True,
                )
            except OSError as error:
                self._warn(f"cannot start {self.launch.member}: {error}")
            else:
                await self._copy_log(self._process)
                status = await self._process.wait()
                if self._stopping:
                    return
                self._warn(f"{self.launch.member} ended with status {status} and is started again")
            if time.monotonic() - started > _LONG_ENOUGH:
                deaths = 0
            await asyncio.sleep(_RESTART_DELAYS[min(deaths, len(_RESTART_DELAYS) - 1)])
            deaths += 1

    async def _copy_log(self, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        log = self.launch.log.open("ab")
        try:
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:  # a line beyond the limit; asyncio has dropped it
                    continue
                if not line:
                    return
                log.write(line)
                log.flush()
                if log.tell() > _LOG_LIMIT:
                    log.close()
                    self.launch.log.replace(self.launch.log.with_suffix(".log.1"))
                    log = self.launch.log.open("ab")
                if text := worth_showing(line):
                    self._warn(f"{self.launch.member}: {text}")
        finally:
            log.close()


def command(launch: Launch, state_port: int, health_port: int) -> Sequence[str]:
    """The command line of a member."""
    workers = () if launch.workers is None else ("--workers", str(launch.workers))
    return (
        sys.executable,
        "-m",
        "letterlock_cli",
        "gateway",
        f"--mount={launch.mount}",
        f"--spool={launch.spool}",
        f"--member={launch.member}",
        f"--state-address={LOOPBACK}",
        f"--state-port={state_port}",
        f"--health-port={health_port}",
        f"--parent={os.getpid()}",
        *workers,
    )


def worth_showing(line: bytes) -> str:
    """What of a log line concerns people who watch: warnings, errors, and what is no log line at all."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        return line.decode(errors="replace").strip()
    if not isinstance(record, dict):
        return line.decode(errors="replace").strip()
    entry = cast("dict[str, Any]", record)
    return str(entry.get("message", "")) if entry.get("level") in {"warning", "error"} else ""


def free_ports(count: int) -> list[int]:
    """That many loopback ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def end_with_parent(parent: int) -> None:
    """Called in the member: make the kernel send us SIGTERM when `parent` dies, however it dies (Linux).

    Without it a killed `up` would leave a member behind that holds the listeners' ports.
    """
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1  # <sys/prctl.h>
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
