"""Clients that send without pause, a new STARTTLS session for each message, and note what they were told."""

import smtplib
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tests.harness import letters


@dataclass
class Record:
    """What all clients together have seen."""

    acknowledged: list[str] = field(default_factory=list[str])
    """Message-IDs that got their 250."""
    failures: list[str] = field(default_factory=list[str])
    """Sessions that did not end with a 250 and a 221."""
    certificates: list[str] = field(default_factory=list[str])
    """sha256 of the certificate of each session, in the order in which they were seen."""
    begun: list[float] = field(default_factory=list[float])
    """When each of these sessions began to connect (time.monotonic)."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def certificates_since(self, moment: float) -> set[str]:
        """Those of sessions that began after `moment` (time.monotonic)."""
        with self.lock:
            return {one for one, began in zip(self.certificates, self.begun, strict=True) if began >= moment}


def send_one(
    port: int,
    record: Record,
    context: ssl.SSLContext,
    *,
    size: int = 4096,
    address: str = "127.0.0.1",
    to: str = "someone@mailbox.example",
    sender: str = "sender@client.example",
) -> None:
    """One session with one message. Its outcome goes into `record`; raises nothing."""
    identity = f"<{uuid.uuid4()}@client.example>"
    message = letters.sized_letter(size, identity).replace(b"\n", b"\r\n")
    acknowledged = False
    began = time.monotonic()
    try:
        with smtplib.SMTP(address, port, local_hostname="client.example", timeout=60) as client:
            client.starttls(context=context)
            connected: Any = client.sock
            served = sha256(connected.getpeercert(binary_form=True)).hexdigest()
            with record.lock:
                record.certificates.append(served)
                record.begun.append(began)
            client.sendmail(sender, [to], message)
            acknowledged = True
            with record.lock:
                record.acknowledged.append(identity)
    except (OSError, smtplib.SMTPException) as error:
        with record.lock:
            when = "after" if acknowledged else "before"
            record.failures.append(f"{type(error).__name__} {when} 250: {error}")


def unverified() -> ssl.SSLContext:
    """A context of clients that take any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def sending(
    port: int,
    *,
    clients: int = 20,
    stop_on_failure: bool = False,
    address: str = "127.0.0.1",
    to: str = "someone@mailbox.example",
) -> Generator[Record]:
    """So many clients send without pause while the body of the `with` runs; on leaving, all have ended."""
    record = Record()
    ending = threading.Event()
    context = unverified()

    def client() -> None:
        while not ending.is_set():
            send_one(port, record, context, address=address, to=to)
            if stop_on_failure and record.failures:
                return

    threads = [threading.Thread(target=client, name=f"client {n}") for n in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield record
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def after(record: Record, more: int) -> Callable[[], bool]:
    """Whether `more` messages were acknowledged since this call."""
    so_far = len(record.acknowledged)
    return lambda: len(record.acknowledged) >= so_far + more
