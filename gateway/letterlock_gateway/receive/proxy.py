"""The PROXY protocol, versions 1 and 2: the real client behind a load balancer (L10).

Pure but for `receive`. By its specification (haproxy, doc/proxy-protocol.txt). Only those who are listed are
asked for it, and they must send it.
"""

import asyncio
import ipaddress
import socket
import struct
from typing import Final

from letterlock_gateway import values
from letterlock_gateway.receive.access import Address

_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V1_MAX: Final = 107
_V2_MAX: Final = 16 + 2048  # addresses, and additions (TLVs) that are skipped
_ADDRESS_LENGTH: Final = {0x1: 4, 0x2: 16}


class BadHeader(ValueError):  # noqa: N818 - says what it is
    """What came is not a PROXY header."""


@values.value
class Header:
    """A header that was read."""

    client: Address | None
    """None: nobody it could name; the connection is the balancer's own (a health check)."""
    rest: bytes
    """What follows the header."""


def read(data: bytes) -> Header | None:
    """The header that `data` begins with; None: more is needed. Raises BadHeader."""
    if data.startswith(_V2[: len(data)]):
        return _version2(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _version1(data)
    raise BadHeader("no PROXY header")


async def receive(connection: socket.socket) -> Address | None:
    """The client in the header that comes first on `connection`, and not one octet more is read.

    None: the connection is the balancer's own. Raises BadHeader and OSError.
    """
    loop = asyncio.get_running_loop()
    data = b""
    header: Header | None = None
    while header is None:
        wanted = 1  # a line of version 1 shows its end only when it has come
        if data[:12] == _V2:
            wanted = 16 - len(data) if len(data) < 16 else 16 + int.from_bytes(data[14:16]) - len(data)
        more = await loop.sock_recv(connection, wanted)
        if not more:
            raise BadHeader("the connection ended before its PROXY header")
        data += more
        header = read(data)
    return header.client


def _version1(data: bytes) -> Header | None:
    end = data.find(b"\r\n")
    if end < 0 or end + 2 > _V1_MAX:
        if len(data) >= _V1_MAX:
            raise BadHeader("PROXY header too long")
        return None
    words = data[:end].decode("ascii", "replace").split(" ")
    rest = data[end + 2 :]
    if words[1:2] == ["UNKNOWN"]:
        return Header(None, rest)
    try:
        _, family, source, _, source_port, target_port = words
        client = ipaddress.ip_address(source)
        valid = {"TCP4": 4, "TCP6": 6}[family] == client.version and all(
            0 <= int(port) <= 0xFFFF for port in (source_port, target_port)
        )
    except (ValueError, KeyError) as error:
        raise BadHeader("malformed PROXY header") from error
    if not valid:
        raise BadHeader("malformed PROXY header")
    return Header(_plain(client), rest)


def _version2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    kind, family, length = struct.unpack_from("!BBH", data, 12)
    if kind not in {0x20, 0x21} or 16 + length > _V2_MAX:
        raise BadHeader("malformed PROXY header")
    if len(data) < 16 + length:
        return None
    rest = data[16 + length :]
    size = _ADDRESS_LENGTH.get(family >> 4)
    if kind == 0x20 or size is None:
        return Header(None, rest)
    if family & 0x0F != 1 or length < 2 * size + 4:
        raise BadHeader("malformed PROXY header")
    return Header(_plain(ipaddress.ip_address(data[16 : 16 + size])), rest)


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
