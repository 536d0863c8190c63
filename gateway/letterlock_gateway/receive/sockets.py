"""Listening sockets.

Every worker binds its own, and the kernel deals connections out among them (SO_REUSEPORT).
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
from typing import Final

from letterlock_gateway import values


@values.value
class Endpoint:
    """Where a listener listens: one address of one family."""

    address: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """Of the address."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def endpoints(address: str, port: int) -> list[Endpoint]:
    """The endpoints for an address; empty: all addresses of both families, each with a socket of its own.

    Raises ValueError for what is no address.
    """
    if address:
        return [Endpoint(str(ipaddress.ip_address(address)), port)]
    both = [Endpoint("0.0.0.0", port), Endpoint("::", port)]  # noqa: S104 - a mail server is for everybody
    return both if has_ipv6() else both[:1]


def has_ipv6() -> bool:
    """Whether this machine can bind IPv6 at all (containers often cannot)."""
    if not socket.has_ipv6:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.bind(("::", 0))
        return True
    return False


def bind(endpoint: Endpoint) -> socket.socket:
    """A bound socket, not listening yet. Raises OSError."""
    made = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if endpoint.family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((endpoint.address, endpoint.port))
    except OSError:
        made.close()
        raise
    return made


class Bare:
    """An accepted socket without transport yet, with as much of a transport's face as is needed so far."""

    def __init__(self, accepted: socket.socket | None) -> None:
        self._socket = accepted

    def hand_over(self) -> socket.socket:
        """The socket, for the transport that takes it over. Raises OSError: it has been closed."""
        if self._socket is None:
            raise ConnectionAbortedError("the connection has been closed")
        taken, self._socket = self._socket, None
        return taken

    def get_extra_info(self, name: str) -> object:
        """Only `sockname` is known."""
        return self._socket.getsockname() if self._socket is not None and name == "sockname" else None

    def pause_reading(self) -> None:
        """Nothing is being read yet."""

    def resume_reading(self) -> None:
        """Nothing is being read yet."""

    def close(self) -> None:
        """Close it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def abort(self) -> None:
        """Close it with a reset."""
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


GONE: Final = Bare(None)
"""What is left of every connection in the end."""


def acknowledge(transport: asyncio.Transport) -> None:
    """Tell the peer at once that what it sent has come, where no answer of ours does.

    It may hold back a small piece until then (RFC 9293 section 3.7.4, Nagle), as it ends a handshake and goes on with a
    command, while our kernel holds back its word for 40 ms, for an answer to go with (section 3.8.6.3).
    """
    connected = transport.get_extra_info("socket")
    if connected is not None and hasattr(socket, "TCP_QUICKACK"):  # Linux
        with contextlib.suppress(OSError):  # it has gone already
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def explain(error: OSError, endpoint: Endpoint) -> str:
    """For people: why `endpoint` could not be bound."""
    match error.errno:
        case errno.EADDRINUSE:
            why = "another program listens there"
        case errno.EADDRNOTAVAIL:
            why = "this machine does not have that address"
        case errno.EACCES:
            why = "ports below 1024 need more rights"
        case _:
            why = error.strerror or str(error)
    return f"cannot listen on {endpoint}: {why}"
