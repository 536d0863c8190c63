"""Where worker processes come from: a process that has imported everything and does nothing but fork.

A worker that starts from nothing imports for 0.7 s of processor time; a fork takes milliseconds, shares
that memory with its siblings, and an event loop or a thread that runs in the supervisor is never forked
along. `open` is called by `supervisor.run` before there is any loop or thread; the rest by `workers`.
"""

import asyncio
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn, Self

_PR_SET_PDEATHSIG: Final = 1  # <sys/prctl.h>
_PR_SET_NAME: Final = 15
_MESSAGE_LIMIT: Final = 256

type Work = Callable[[socket.socket], None]


class NurseryLost(Exception):  # noqa: N818 - said of the nursery
    """The nursery has died (killed, or out of memory): no worker can be started any more."""


@dataclass(frozen=True)
class Child:
    """A process that was forked."""

    pid: int
    ended: asyncio.Future[int]
    """Its status as `os.waitstatus_to_exitcode` gives it. Raises NurseryLost: nobody will know."""


class Nursery:
    """The supervisor's side. One process, which ends with the supervisor."""

    def __init__(self, control: socket.socket, pid: int) -> None:
        self._control = control
        self._pid = pid
        self._children: dict[int, Child] = {}
        self._waiting: dict[int, asyncio.Future[Child]] = {}
        self._count = 0
        self.lost = asyncio.Event()
        """Set when the nursery has died."""

    @classmethod
    def open(cls, work: Work) -> Self:
        """Fork the nursery, whose children call `work` with their end of a channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.freeze()  # what is there now stays, in memory that all processes share: no collection touches it
        pid = os.fork()
        if pid == 0:
            ours.close()
            _serve(theirs, work)
        theirs.close()
        ours.setblocking(False)
        return cls(ours, pid)

    def attach(self) -> None:
        """Begin to hear of children, on the running loop."""
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._hear)

    async def fork(self, end: socket.socket) -> Child:
        """A new process that works at `end`, which stays open here. Raises NurseryLost."""
        if self.lost.is_set():
            raise NurseryLost("the process that starts workers has ended")
        self._count += 1
        waiting = self._waiting[self._count] = asyncio.get_running_loop().create_future()
        socket.send_fds(self._control, [json.dumps({"fork": self._count}).encode()], [end.fileno()])
        return await waiting

    def kill(self, child: Child) -> None:
        """End it at once (SIGKILL), if it has not ended yet."""
        if not self.lost.is_set():
            self._control.send(json.dumps({"kill": child.pid}).encode())

    def close(self) -> None:
        """Let the nursery end, and wait for it: it has nothing left to do."""
        if not self.lost.is_set():
            asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        os.waitpid(self._pid, 0)

    def _hear(self) -> None:
        try:
            message = self._control.recv(_MESSAGE_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lose()
            return
        said = json.loads(message)
        if "forked" in said:
            child = Child(said["pid"], asyncio.get_running_loop().create_future())
            self._children[child.pid] = child
            waiting = self._waiting.pop(said["forked"])
            if not waiting.done():
                waiting.set_result(child)
        else:
            ended = self._children.pop(said["ended"]).ended
            if not ended.done():
                ended.set_result(said["status"])

    def _lose(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self.lost.set()
        lost = NurseryLost("the process that starts workers has ended")
        for future in (*self._waiting.values(), *(child.ended for child in self._children.values())):
            if not future.done():
                future.set_exception(lost)
        self._children.clear()
        self._waiting.clear()


def end_with_parent(name: str, how: signal.Signals) -> None:
    """The kernel sends `how` when the parent dies, however it dies. `name`: for ps, at most 15 bytes."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, how)
    libc.prctl(_PR_SET_NAME, name.encode())


def _serve(control: socket.socket, work: Work) -> NoReturn:
    """The nursery's life: fork, kill, and say who has ended, until the supervisor is gone."""
    end_with_parent("letterlock-nurs", signal.SIGKILL)
    # Ctrl-C goes to the whole foreground group, SIGTERM perhaps to all of a container; the supervisor alone
    # takes them, tells the workers to stop, and then the nursery.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    alive: set[int] = set()
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _note)
    polled = select.poll()
    polled.register(control, select.POLLIN)
    polled.register(woken, select.POLLIN)
    try:
        while True:
            ready = dict(polled.poll())
            if woken in ready:
                os.read(woken, 4096)
                _reap(control, alive)
            if control.fileno() in ready:
                message, ends, *_ = socket.recv_fds(control, _MESSAGE_LIMIT, 1)
                if not message:
                    break
                asked = json.loads(message)
                if "kill" in asked:
                    if asked["kill"] in alive:  # not reaped, so the number is still its own
                        os.kill(asked["kill"], signal.SIGKILL)
                    continue
                pid = os.fork()
                if pid == 0:
                    for inherited in (woken, wake):
                        os.close(inherited)
                    control.close()
                    _work(ends[0], work)
                os.close(ends[0])
                alive.add(pid)
                control.send(json.dumps({"forked": asked["fork"], "pid": pid}).encode())
    except OSError:
        os._exit(1)  # the supervisor is gone in the middle of a message
    os._exit(0)


def _note(_number: int, _frame: FrameType | None) -> None:
    """A handler must be there for the wake-up; what it tells is looked up."""


def _reap(control: socket.socket, alive: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        alive.discard(pid)
        control.send(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def _work(descriptor: int, work: Work) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work(socket.socket(fileno=descriptor))
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the nursery's may run on in here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
