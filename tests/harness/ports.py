"""Free ports on the loopback interface, and waiting until somebody listens on one."""

import contextlib
import random
import socket
import time
from typing import Final

import psutil

# Below the kernel's (net.ipv4.ip_local_port_range) and those of node ports, above those that tests name.
_PORTS: Final = range(14_000, 30_000)
_given: set[int] = set()


class PortTakenError(RuntimeError):
    """Somebody listens on a port that a test needs."""


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody uses at `address` now, and nobody else is given by this process.

    Not one of those that the kernel gives to outgoing connections: one of them could take it before it is listened on.
    """
    if len(_given) > len(_PORTS) // 2:
        _given.clear()
    for _ in range(1000):
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            _given.add(port)
            return port
    raise PortTakenError(f"No port from {_PORTS.start} to {_PORTS.stop - 1} of {address} is free.")


def require_free(port: int, address: str = "127.0.0.1") -> None:
    """Raise PortTakenError that names the process, if somebody listens on the port.

    What an earlier run left behind would answer in place of the test's own server.
    """
    if listening(port, address):
        raise PortTakenError(
            f"Port {port} of {address} is needed, but taken by {_listener(port)}: end it first."
        )


def _listener(port: int) -> str:
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid is not None:
            with contextlib.suppress(psutil.Error):
                return f"process {one.pid} ({' '.join(psutil.Process(one.pid).cmdline())})"
    return "a process that does not show itself"


def listening(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a connection to the port is taken."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5):
        return True
    return False


def wait_for_listener(port: int, address: str = "127.0.0.1", *, seconds: float = 30) -> None:
    """Return once somebody listens there. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not listening(port, address):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens on {address} port {port} after {seconds:.0f} s")
        time.sleep(0.05)
