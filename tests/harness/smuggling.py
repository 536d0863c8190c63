"""Text that two servers may take for a different number of messages (SMTP smuggling), and who sends it."""

import contextlib
import socket
from collections.abc import Callable
from typing import Final

# Everything but CRLF . CRLF that some server has taken for the end of a message.
ENDINGS: Final = (
    b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r",
    b"\r\n\0.\r\n", b"\r\n.\0\r\n",
)  # fmt: skip
OUTER: Final = "outer-"
INNER: Final = "smuggled-"


def text(number: int, *, to: str = "someone@mailbox.example") -> bytes:
    """What follows DATA: a message that holds another one behind the ending of this number, and the true end."""
    inner = (
        f"MAIL FROM:<evil@client.example>\r\nRCPT TO:<{to}>\r\nDATA\r\n"
        f"Subject: {INNER}{number}\r\n\r\nsmuggled\r\n"
    )
    outer = f"Subject: {OUTER}{number}\r\n\r\nouter".encode() + ENDINGS[number]
    return outer + inner.encode() + b".\r\n"


def attack(port: int, number: int, *, to: str = "someone@mailbox.example") -> list[int]:
    """Send it to a server on loopback in one session; the codes of all replies to the text and what follows."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        replies = connection.makefile("rb")
        _reply(replies.readline)
        for line in ("EHLO client.example", "MAIL FROM:<sender@client.example>", f"RCPT TO:<{to}>", "DATA"):
            connection.sendall(f"{line}\r\n".encode())
            _reply(replies.readline)
        connection.sendall(text(number, to=to) + b"QUIT\r\n")
        codes: list[int] = []
        with contextlib.suppress(ConnectionError):
            while code := _reply(replies.readline):
                codes.append(code)
        return codes


def subjects(messages: list[bytes]) -> list[str]:
    """The markers in these messages' subjects, sorted."""
    headers = (message.replace(b"\r\n", b"\n").partition(b"\n\n")[0] for message in messages)
    mark = b"Subject: "
    return sorted(
        line.removeprefix(mark).decode()
        for header in headers
        for line in header.split(b"\n")
        if line.startswith(mark)
    )


def _reply(readline: Callable[[], bytes]) -> int:
    """The code of one reply; 0: the connection has ended."""
    while (line := readline())[3:4] == b"-":
        pass
    return int(line[:3] or 0)
