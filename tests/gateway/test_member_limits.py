"""Limits hold for the member, however the kernel deals its connections out to the workers, and whatever dies."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from letterlock_api.snapshot import NextHop
from tests.harness import ports, waiting
from tests.harness.faulty_smtp import FaultySMTP
from tests.harness.member import Member
from tests.harness.mounts import destination, listener, policy, snapshot


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    made = Member(tmp_path, workers=3, options=["--grace", "1"])
    try:
        yield made
    finally:
        made.stop()


class Line:
    """One SMTP connection from an address of the test's choice."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
        self._file = self._socket.makefile("rb")
        self.greeting = self._reply()

    def ask(self, line: str) -> str:
        self._socket.sendall(line.encode() + b"\r\n")
        return self._reply()

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()
            self._socket.close()

    def _reply(self) -> str:
        while (line := self._file.readline().decode())[3:4] == "-":
            pass
        return line


def run(member: Member, *, max_concurrency: int = 1000, **limits: int) -> int:
    """Start the member with one listener; `limits` are fields of its only policy."""
    port = ports.free_port()
    only = policy(**limits)  # pyright: ignore[reportArgumentType]
    one = listener(port, policies=[only], max_concurrency=max_concurrency)
    member.mount.publish(snapshot(listeners=[one]))
    member.start().wait_ready()
    return port


def let_in(lines: list[Line]) -> int:
    return sum(line.greeting.startswith("220") for line in lines)


def workers_of(member: Member) -> set[int]:
    """Workers that have taken a connection."""
    return {entry["worker"] for entry in member.log() if "New SMTP ICID" in str(entry.get("message"))}


def test_connections_of_a_host_and_of_all_are_counted_over_all_workers(member: Member) -> None:
    port = run(member, max_concurrency=6, max_connections_per_host=4)
    with ExitStack() as ends:

        def connect(count: int, source: str) -> list[Line]:
            return [ends.enter_context(closing(Line(port, source))) for _ in range(count)]

        first = connect(12, "127.0.0.1")
        assert let_in(first) == 4
        assert len(workers_of(member)) > 1, "the kernel spreads them by chance"
        refused = [line.greeting for line in first if not line.greeting.startswith("220")]
        assert all(one.startswith("421 4.7.0 Too many connections from this host") for one in refused)
        second = connect(6, "127.0.0.2")
        assert let_in(second) == 2, "six in all"
        assert {line.greeting[:9] for line in second} == {"220 mx.le", "421 4.3.2"}
        next(line for line in first if line.greeting.startswith("220")).close()
        waiting.until(lambda: let_in(connect(1, "127.0.0.3")) == 1, what="the place that was given back")


def test_recipients_of_a_host_are_counted_over_all_workers(member: Member) -> None:
    port = run(member, max_recipients_per_hour=5)
    replies: list[str] = []
    for number in range(16):
        with closing(Line(port)) as line:
            line.ask("EHLO client.example")
            line.ask("MAIL FROM:<a@sender.example>")
            replies.append(line.ask(f"RCPT TO:<u{number}@here.example>")[:3])
    assert replies == ["250"] * 5 + ["452"] * 11
    assert len(workers_of(member)) > 1
    with closing(Line(port, "127.0.0.9")) as other:
        other.ask("EHLO client.example")
        other.ask("MAIL FROM:<a@sender.example>")
        assert other.ask("RCPT TO:<u@here.example>").startswith("250")


def test_a_worker_that_is_killed_gives_its_places_back(member: Member) -> None:
    port = run(member, max_connections_per_host=9)
    with ExitStack() as ends:
        held = [ends.enter_context(closing(Line(port))) for _ in range(12)]
        assert let_in(held) == 9
        pids = member.worker_pids()
        member.kill_worker(pids[0])

        def as_many_again() -> bool:
            """Whether nine are in again: those that the dead worker held, and no more."""
            alive = [line for line in held if line.greeting.startswith("220") and _lives(line)]
            more = Line(port)
            if more.greeting.startswith("220"):
                held.append(ends.enter_context(closing(more)))
            else:
                more.close()
            return len(alive) == 9 and not more.greeting.startswith("220")

        waiting.until(as_many_again, what="places of the dead worker given back", every=0.02)


def _lives(line: Line) -> bool:
    try:
        return line.ask("NOOP").startswith("250")
    except OSError:
        return False


def test_a_supervisor_that_stands_still_stalls_nobody_and_loosens_no_limit(member: Member) -> None:
    port = run(member, max_connections_per_host=3)
    assert member.process is not None
    os.kill(member.process.pid, signal.SIGSTOP)
    try:
        with ExitStack() as ends:
            lines = [ends.enter_context(closing(Line(port))) for _ in range(9)]
            assert let_in(lines) == 3
            good = next(line for line in lines if line.greeting.startswith("220"))
            good.ask("EHLO client.example")
            good.ask("MAIL FROM:<a@sender.example>")
            good.ask("RCPT TO:<u@here.example>")
            good.ask("DATA")
            assert good.ask("Subject: x\r\n\r\nx\r\n.").startswith("250")
    finally:
        os.kill(member.process.pid, signal.SIGCONT)


async def test_connections_to_a_destination_are_counted_over_all_workers_and_each_gets_its_part(
    member: Member,
) -> None:
    port = ports.free_port()
    async with FaultySMTP() as server:
        server.pause = 0.02
        hop = NextHop(host="127.0.0.1", port=server.port)
        member.mount.publish(
            snapshot(
                listeners=[listener(port)],
                destinations=[destination(routes=[hop], tls_mode="No", connections=2)],
            )
        )
        member.start()
        await asyncio.to_thread(member.wait_ready)

        def send() -> None:
            for number in range(90):
                with closing(Line(port)) as line:
                    line.ask("EHLO client.example")
                    line.ask("MAIL FROM:<a@sender.example>")
                    line.ask(f"RCPT TO:<u{number}@there.example>")
                    line.ask("DATA")
                    assert line.ask("Subject: x\r\n\r\nx\r\n.").startswith("250")

        await asyncio.to_thread(send)
        async with asyncio.timeout(60):
            while len(server.delivered) < 90:
                await asyncio.sleep(0.05)
        assert server.most_open <= 2
        delivering = {
            entry["worker"] for entry in member.log() if "Delivery start" in str(entry.get("message"))
        }
        assert delivering == {0, 1, 2}


async def test_recipients_per_period_are_counted_over_all_workers(member: Member) -> None:
    port = ports.free_port()
    async with FaultySMTP() as server:
        hop = NextHop(host="127.0.0.1", port=server.port)
        limited = destination(routes=[hop], tls_mode="No", recipients_count=4, recipients_period=600.0)
        member.mount.publish(snapshot(listeners=[listener(port)], destinations=[limited]))
        member.start()
        await asyncio.to_thread(member.wait_ready)

        def send() -> None:
            # Of so many, each worker gets some.
            for number in range(60):
                with closing(Line(port)) as line:
                    line.ask("EHLO client.example")
                    line.ask("MAIL FROM:<a@sender.example>")
                    line.ask(f"RCPT TO:<u{number}@there.example>")
                    line.ask("DATA")
                    assert line.ask("Subject: x\r\n\r\nx\r\n.").startswith("250")

        await asyncio.to_thread(send)
        async with asyncio.timeout(30):
            while len(server.delivered) < 4:
                await asyncio.sleep(0.05)
        # All that waits has been looked at once every worker has connected: the limit is asked just before MAIL.
        async with asyncio.timeout(30):
            while len({e["worker"] for e in member.log() if "New SMTP DCID" in str(e.get("message"))}) < 3:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(waiting.until, lambda: member.queue() == 56, what="56 in the queue")
        assert len(server.delivered) == 4
