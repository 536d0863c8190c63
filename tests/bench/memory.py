"""What a member takes: each of 5,000 connections that are open and idle, and 50 clients that send 2 MB messages."""

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final

from tests.bench import relays, rounds
from tests.bench.relays import Subject
from tests.bench.report import Report
from tests.bench.rest import mebibytes
from tests.bench.rounds import Scenario
from tests.bench.sink import Sink

_IDLE: Final = 5000
_LARGE: Final = Scenario(300, clients=50, size=2 << 20)


def measure(report: Report) -> None:
    """Both, each with a member of its own."""
    certificates = relays.Certificates.make()
    many = {"max_concurrency": 2 * _IDLE}
    with Sink(certificates.sink) as sink:
        for tls in (False, True):
            with (
                tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
                relays.letterlock(Path(folder), certificates, sink, listener=many) as (made, relay),
            ):
                assert made.process is not None
                before = mebibytes(made.process.pid)
                with _open(relay.port, _IDLE, tls=tls):
                    each = (mebibytes(made.process.pid) - before) * 1024 / _IDLE
                how = "after EHLO inside TLS" if tls else "in clear text, after the greeting"
                report.single(f"each of {_IDLE} idle connections, {how}", each, "KiB")
        with (
            tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
            relays.letterlock(Path(folder), certificates, sink) as (made, relay),
        ):
            assert made.process is not None
            subject = Subject("Letterlock", relay.port, made.process.pid)
            with _watched(subject.pid) as most:
                done = rounds.run(_LARGE, subject, sink)
            report.single(f"{_LARGE.clients} clients send 2 MB: memory at most", max(most), "MiB")
            report.single(f"{_LARGE.clients} clients send 2 MB: relayed", done.relayed, "messages/s")


@contextlib.contextmanager
def _open(port: int, number: int, *, tls: bool) -> Generator[None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            plain.recv(1000)
            if tls:
                for command in (b"EHLO client.example\r\n", b"STARTTLS\r\n"):
                    plain.sendall(command)
                    plain.recv(1000)
                secure = stack.enter_context(context.wrap_socket(plain))
                secure.sendall(b"EHLO client.example\r\n")
                secure.recv(1000)
        yield


@contextlib.contextmanager
def _watched(pid: int) -> Generator[list[float]]:
    """Its memory, looked at again and again."""
    seen: list[float] = [mebibytes(pid)]
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            seen.append(mebibytes(pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        stop.set()
        looking.join()
