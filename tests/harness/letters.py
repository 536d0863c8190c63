"""Messages for tests, and whether one came through unchanged."""

import uuid
from collections.abc import Iterable
from typing import Final

# Text that relays have changed: leading dots, trailing blanks, 8-bit, tabs, a From at the line's start.
AWKWARD: Final = (
    ".\n..\n.leading dot\nFrom here on\n>From there\ntrailing blanks   \n\ttab\n"
    "Grüße, ¡hola! Привет 漢字\n=20 =\n\n\nlast line after blank ones\n"
)


def letter(
    *,
    subject: str = "A letter",
    body: str = AWKWARD,
    message_id: str | None = None,
    to: str = "someone@mailbox.example",
) -> bytes:
    """A whole message with LF line ends, headers first, 8-bit text in UTF-8."""
    identity = message_id or f"<{uuid.uuid4()}@client.example>"
    head = (
        f"From: Sender <sender@client.example>\nTo: <{to}>\nSubject: {subject}\nMessage-ID: {identity}\n"
        "Date: Mon, 05 Jan 2026 10:00:00 +0000\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
        "X-Folded: one\n\ttwo\n  three\n\n"
    )
    return (head + body).encode()


def sized_letter(size: int, message_id: str | None = None) -> bytes:
    """A message of `size` bytes (LF line ends) or a little more."""
    start = letter(body="", message_id=message_id)
    line = "x" * 71 + "\n"
    return start + (line * ((max(0, size - len(start)) // len(line)) + 1)).encode()


def arrived(message: bytes, mailbox: Iterable[bytes]) -> bytes | None:
    """The copy of `message` in the mailbox, the same but for headers that hops put before it. None: none."""
    return next((found for found in mailbox if found.endswith(b"\n" + message)), None)


def added_headers(message: bytes, found: bytes) -> str:
    """What the hops have put before `message` in `found`."""
    return found.removesuffix(message).decode()
