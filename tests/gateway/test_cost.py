"""What a message costs, in calls: a guard against what makes each message slower, whatever else the machine does.

Calls of Python and C functions on the worker's event loop, with clients and next hop in threads of their own. A change
that needs more for a good reason raises the bound; `make bench` says what it means in processor time.
"""

import asyncio
import smtplib
import ssl
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvloop
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope

from tests.gateway.receiving import listener, receiving, running_set
from tests.harness import mounts
from tests.harness.certificates import Authority
from tests.harness.deliveries import delivering, route
from tests.harness.ports import free_port

_MESSAGES: Final = 40
_TEXT: Final = b"Subject: what it costs\r\n\r\n" + b"one of its lines\r\n" * 200
# Measured: 893, 468, and 600 to 655 as commits gather more or fewer. Some are left for how octets meet. Calls of TLS
# count since it is ours; what uvloop did for it in C was not seen here, and took longer (docs/decisions/0042). A few
# look whether the loop has work before a commit (0048), with one client at a time for each message anew.
_SESSION: Final = 940
_RECEIVED: Final = 495
_DELIVERED: Final = 700


class Calls:
    """How many there were."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _: FrameType, event: str, __: Any) -> None:
        """What `sys.setprofile` calls."""
        if event in {"call", "c_call"}:
            self.count += 1


@contextmanager
def counted() -> Generator[Calls]:
    """Calls of this thread meanwhile."""
    calls = Calls()
    sys.setprofile(calls)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def _client(port: int, context: ssl.SSLContext, connections: int, messages: int) -> None:
    for _ in range(connections):
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            client.starttls(context=context)
            for _ in range(messages):
                client.sendmail("a@client.example", ["b@here.example"], _TEXT)


async def _calls_of_reception(directory: Path) -> tuple[float, float]:
    """Of a session with one message, and of each further message in it."""
    authority = Authority()
    pem = authority.issue("mx.here.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with receiving(directory) as made:
        served = listener(made.port, certificates=[pem], policy={"tls_mode": "Preferred"})
        await made.reception.apply(running_set(served, certificates=[pem]))
        await asyncio.to_thread(_client, made.port, context, 3, 3)
        with counted() as one_each:
            await asyncio.to_thread(_client, made.port, context, _MESSAGES, 1)
        with counted() as two_each:
            await asyncio.to_thread(_client, made.port, context, _MESSAGES, 2)
    return one_each.count / _MESSAGES, (two_each.count - one_each.count) / _MESSAGES


class _Sink:
    async def handle_DATA(self, _: SMTP, __: object, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        return "250 2.0.0 taken" if envelope.content else "554 5.6.0 nothing in it"


async def _calls_of_delivery(directory: Path) -> float:
    """Of each message over a connection that is kept."""
    authority = Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = directory / "sink.pem"
    pem.write_bytes(authority.issue("mailbox.example"))
    context.load_cert_chain(pem)
    sink = Controller(
        _Sink(), hostname="127.0.0.1", port=free_port(), tls_context=context, require_starttls=True
    )
    await asyncio.to_thread(sink.start)
    try:
        async with delivering(directory, idle=60) as made:
            made.trusted = [authority.pem]
            made.apply(
                mounts.destination(
                    "mailbox.example",
                    resource="mailbox",
                    tls_mode="RequiredVerify",
                    routes=[route(sink.port)],
                    connections=1,
                    messages_per_connection=10_000,
                )
            )

            async def send(number: int) -> None:
                for _ in range(number):
                    await made.send(body=_TEXT)
                async with asyncio.timeout(120):
                    while made.spool.queue_length():
                        await asyncio.sleep(0.2)  # seldom, for each look costs calls too

            await send(5)
            with counted() as first:
                await send(_MESSAGES)
            with counted() as second:
                await send(2 * _MESSAGES)
    finally:
        await asyncio.to_thread(sink.stop)
    # Their difference: what looking whether everything is delivered costs is in both.
    return (second.count - first.count) / _MESSAGES


def test_a_message_takes_no_more_calls_than_it_did(tmp_path: Path) -> None:
    session, further = uvloop.run(_calls_of_reception(tmp_path))
    delivered = uvloop.run(_calls_of_delivery(tmp_path))
    print(
        f"calls: a session with a message {session:.0f}, a further one {further:.0f}, a delivery {delivered:.0f}"
    )
    assert (session <= _SESSION, further <= _RECEIVED, delivered <= _DELIVERED) == (True, True, True)
