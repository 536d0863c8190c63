"""Messages between the supervisor and one worker: JSON, each with its length before it, over a socketpair.

Used by both sides. What it carries includes private keys: it must never be anything but a socketpair, which
no disk and no other process sees.
"""

import asyncio
import json
import socket
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final, Self, cast

_LENGTH: Final = struct.Struct("!I")

type Message = Mapping[str, Any]


def encode(message: Message) -> bytes:
    """The bytes of a message on the channel; one for many workers is encoded once."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


def set_message(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """The message that hands a mounted set over: the bytes of `snapshot.json`, and the files it names."""
    return encode(
        {
            "kind": "set",
            "content": b64encode(content).decode(),
            "files": {name: b64encode(data).decode() for name, data in files.items()},
        }
    )


def set_in(message: Message) -> tuple[bytes, dict[str, bytes]]:
    """The reverse of `set_message`."""
    return b64decode(message["content"]), {name: b64decode(data) for name, data in message["files"].items()}


class Channel:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Take over one end of the pair."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def receive(self) -> Message | None:
        """The next message; None: the other side is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return cast("Message", json.loads(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def send(self, encoded: bytes) -> bool:
        """Hand over an encoded message, as fast as the other side takes it. False: it is gone."""
        try:
            self._writer.write(encoded)
            await self._writer.drain()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """The other side reads the end."""
        self._writer.close()
