"""However large the messages and however many at once: a member's memory stays where it is.

`LETTERLOCK_LARGE=50x25` tries more than every run does (clients x MB); docs/performance.md says what came of it.
"""

import os
import smtplib
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from tests.harness import letters, waiting
from tests.mail import clients
from tests.mail.between import Between, MakeBetween

MEBIBYTE = 1 << 20
CLIENTS, SIZE = (int(part) for part in os.environ.get("LETTERLOCK_LARGE", "20x10").split("x"))
# What one that comes in or goes out may cost, as docs/performance.md promises, whatever its size. Held whole, they
# would cost more than three times as much.
BOUND = 2 * MEBIBYTE * CLIENTS + 24 * MEBIBYTE


@dataclass
class Watch:
    """The memory of all processes of a member."""

    pid: int
    most: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def now(self) -> int:
        """Octets that are the member's alone or its share of what its processes have in common (PSS)."""
        whole = psutil.Process(self.pid)
        return sum(one.memory_full_info().pss for one in [whole, *whole.children(recursive=True)])

    def run(self) -> None:
        """Until `stop`."""
        while not self.stop.wait(0.02):
            self.most = max(self.most, self.now())


@contextmanager
def watching(made: Between) -> Generator[Watch]:
    """Look at a member's memory again and again; `most` is what was seen at the end."""
    assert made.member.process is not None
    watch = Watch(made.member.process.pid)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop.set()
        thread.join()


def send(port: int, message: bytes, context: ssl.SSLContext, meeting: threading.Barrier) -> None:
    """One message over TLS; all clients are in the midst of theirs at once."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example", timeout=300) as client:
        client.starttls(context=context)
        client.ehlo()
        assert client.docmd("MAIL FROM:<a@client.example>")[0] == 250
        assert client.docmd("RCPT TO:<someone@mailbox.example>")[0] == 250
        assert client.docmd("DATA")[0] == 354
        assert client.sock is not None
        half = len(message) // 2
        client.sock.sendall(message[:half])
        meeting.wait(300)
        client.sock.sendall(message[half:] + b".\r\n")
        assert client.getreply()[0] == 250


def test_many_large_messages_at_once_cost_no_more_memory_than_small_ones(between: MakeBetween) -> None:
    made = between(workers=2, receiving=False, policy={"max_message_size": 2 * SIZE * MEBIBYTE})
    context = clients.unverified()
    message = letters.sized_letter(SIZE * MEBIBYTE, "<large@client.example>").replace(b"\n", b"\r\n")
    with watching(made) as small:
        send(made.port, b"Subject: small\r\n\r\nx\r\n", context, threading.Barrier(1))
        waiting.until(lambda: small.most, what="a first look")
    problems: list[BaseException] = []

    def client() -> None:
        try:
            send(made.port, message, context, meeting)
        except BaseException as problem:  # noqa: BLE001 - told below
            problems.append(problem)
            meeting.abort()

    meeting = threading.Barrier(CLIENTS)
    with watching(made) as coming:
        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []
    with watching(made) as going, made.receiver:
        waiting.until(lambda: made.member.queue() == 0, seconds=300, what="an empty queue")
    for what, seen in (("in", coming), ("out", going)):
        grown = (seen.most - small.most) / MEBIBYTE
        print(f"{CLIENTS} x {SIZE} MiB {what}: {small.most / MEBIBYTE:.0f} MiB and {grown:.0f} MiB more")
    assert coming.most - small.most < BOUND
    assert going.most - small.most < BOUND
