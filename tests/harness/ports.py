"""Free ports on the loopback interface, and waiting until somebody listens on one."""

import contextlib
import socket
import time


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at `address` now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


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
