"""A member as processes: sets taken from real swaps, processes killed, and what the state says meanwhile."""

import asyncio
import os
import signal
import smtplib
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import psutil
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from letterlock_api.snapshot import NextHop, Snapshot
from letterlock_api.state import INTERNAL_CA_FILE, INTERNAL_SERVER_NAME, ListenerState
from letterlock_operator import issuing, members
from letterlock_operator.world import Keep
from tests.gateway.test_running import mismatched
from tests.harness import ports, waiting
from tests.harness.certificates import Authority, leaf_der
from tests.harness.member import Member
from tests.harness.mounts import Files, destination, listener, policy, snapshot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="members run on Linux")


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """A member with two workers, started by the test."""
    made = Member(tmp_path, workers=2, options=["--grace", "2"])
    try:
        yield made
    finally:
        made.stop()


def public(member: Member, name: str = "public") -> ListenerState:
    state = member.state()
    assert state is not None
    return next(one for one in state.listeners if one.name == name)


def nowhere() -> Snapshot:
    """Mail that this set takes stays in the queue: nobody listens at its next hop."""
    hop = NextHop(host="127.0.0.1", port=ports.free_port())
    return snapshot(
        listeners=[listener(ports.free_port())], destinations=[destination(routes=[hop], tls_mode="No")]
    )


def send(port: int, count: int = 1) -> None:
    """Have mail accepted, one connection each: the kernel spreads them over the workers."""
    message = EmailMessage()
    message["From"], message["Subject"] = "sender@sender.example", "kept"
    message.set_content("It got its 250.")
    for _ in range(count):
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.send_message(message, "sender@sender.example", ["recipient@later.example"])


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended. One that has may wait to be collected, by whoever is the first process here."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def served(port: int) -> bytes:
    """The certificate that STARTTLS shows."""
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.starttls(context=unverified())
        assert isinstance(client.sock, ssl.SSLSocket)
        shown = client.sock.getpeercert(binary_form=True)
        assert shown is not None
        return shown


def offering(port: int, pem: bytes) -> tuple[Snapshot, Files]:
    files = Files()
    certificate = files.certificate(pem)
    one = listener(port, certificates=[certificate], policies=[policy(tls_mode="Preferred")])
    return snapshot(files, listeners=[one]), files


def test_without_a_snapshot_it_lives_but_is_not_ready_and_then_takes_the_first_one(member: Member) -> None:
    member.start()
    health = f"http://127.0.0.1:{member.health_port}"
    waiting.until(lambda: ports.listening(member.health_port), what="health endpoint")
    with urllib.request.urlopen(f"{health}/healthz", timeout=5) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        urllib.request.urlopen(f"{health}/readyz", timeout=5)
    refused.value.close()
    port = ports.free_port()
    expected = member.mount.publish(snapshot(listeners=[listener(port)]))
    member.wait_running(expected).wait_ready()
    assert ports.listening(port)
    assert public(member).listening


def test_a_swap_is_taken_by_every_worker_and_closes_what_is_no_more(member: Member) -> None:
    before, after = ports.free_port(), ports.free_port()
    member.mount.publish(snapshot(listeners=[listener(before)], digests={"Listener/public": "1"}))
    member.start().wait_ready()
    expected = member.mount.publish(
        snapshot(listeners=[listener(after, "moved")], digests={"Listener/moved": "1"})
    )
    member.wait_running(expected)
    state = member.state()
    assert state is not None
    assert state.digests == {"Listener/moved": "1"}
    assert [(one.name, one.listening) for one in state.listeners] == [("moved", True)]
    assert ports.listening(after)
    assert not ports.listening(before)


def test_a_new_certificate_is_served_and_a_session_in_progress_goes_on(member: Member) -> None:
    port, authority = ports.free_port(), Authority()
    first, second = (authority.issue("mx.letterlock.example") for _ in range(2))
    member.mount.publish(*offering(port, first))
    member.start().wait_ready()
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as session:
        session.starttls(context=unverified())
        expected = member.mount.publish(*offering(port, second))
        member.wait_running(expected)
        assert served(port) == leaf_der(second)
        assert session.noop()[0] == 250


@pytest.mark.parametrize("broken", ["pair", "missing file", "cut off"])
def test_a_broken_set_never_reaches_a_listener_and_the_state_says_why(member: Member, broken: str) -> None:
    port, authority = ports.free_port(), Authority()
    good = authority.issue("mx.letterlock.example")
    running = member.mount.publish(*offering(port, good))
    member.start().wait_ready()
    bad, files = offering(
        port, mismatched() if broken == "pair" else authority.issue("mx.letterlock.example")
    )
    if broken == "pair":
        member.mount.publish(bad, files)
    elif broken == "missing file":
        member.mount.publish(bad)
    else:
        member.mount.swap({"snapshot.json": bad.encode()[:-20], **files.content})

    def refused() -> str:
        state = member.state()
        return state.refused_reason if state is not None and state.refused else ""

    reason = waiting.until(refused, what="the set refused")
    words = {"pair": "does not belong", "missing file": "is not there", "cut off": "Invalid JSON"}
    assert words[broken] in reason
    state = member.state()
    assert state is not None
    assert (state.snapshot, state.listeners[0].listening) == (running, True)
    assert served(port) == leaf_der(good)
    mended = authority.issue("mx.letterlock.example")
    member.wait_running(member.mount.publish(*offering(port, mended)))
    state = member.state()
    assert state is not None
    assert (state.refused, state.refused_reason) == ("", "")
    assert served(port) == leaf_der(mended)


def test_a_worker_that_is_killed_is_started_again_and_finds_its_spool(member: Member) -> None:
    taken = nowhere()
    expected = member.mount.publish(taken)
    member.start().wait_ready()
    send(taken.listeners[0].port, 8)
    waiting.until(lambda: member.queue() == 8, what="8 recipients queued")
    before = member.worker_pids()
    assert len(before) == 2
    for pid in before:
        member.kill_worker(pid)
    waiting.until(lambda: len(member.worker_pids()) == 2 and not {*member.worker_pids()} & {*before})
    member.wait_running(expected).wait_ready()
    assert member.queue() == 8
    assert member.logged("signal SIGKILL")
    send(taken.listeners[0].port)
    waiting.until(lambda: member.queue() == 9, what="mail taken after the restart")


def test_workers_end_with_a_supervisor_that_is_killed_and_the_next_one_finds_all_spools(
    member: Member,
) -> None:
    taken = nowhere()
    expected = member.mount.publish(taken)
    member.start().wait_ready()
    send(taken.listeners[0].port, 8)
    assert member.process is not None
    below = psutil.Process(member.process.pid).children(recursive=True)
    os.kill(member.process.pid, signal.SIGKILL)
    member.process.wait()
    member.start().wait_running(expected).wait_ready()
    waiting.until(lambda: member.queue() == 8, what="8 recipients found")
    waiting.until(lambda: not any(runs(one) for one in below), what="the old processes gone")
    assert public(member).listening


def test_spools_of_workers_that_are_no_more_get_a_worker(member: Member) -> None:
    taken = nowhere()
    expected = member.mount.publish(taken)
    member.use_workers(3)
    member.start().wait_ready()
    send(taken.listeners[0].port, 12)
    waiting.until(lambda: member.queue() == 12, what="12 recipients queued")
    assert member.stop() == 0
    member.use_workers(1)
    member.start().wait_running(expected)
    assert len(member.worker_pids()) == 3
    assert member.queue() == 12


def test_sigterm_ends_it_in_order(member: Member) -> None:
    port = ports.free_port()
    member.mount.publish(snapshot(listeners=[listener(port)]))
    member.start().wait_ready()
    assert member.process is not None
    below = psutil.Process(member.process.pid).children(recursive=True)
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as idle:
        idle.ehlo()
        member.process.terminate()
        assert idle.getreply()[0] == 421
        idle.close()
    assert member.process.wait(timeout=20) == 0
    assert not any(runs(one) for one in below)
    assert member.logged("has stopped")
    assert not member.logged("Traceback")


def test_without_the_process_that_starts_workers_the_member_ends_to_be_started_again(member: Member) -> None:
    member.mount.publish(snapshot())
    member.start().wait_ready()
    assert member.process is not None
    (nursery,) = psutil.Process(member.process.pid).children()
    nursery.kill()
    assert member.process.wait(timeout=20) == 1
    assert not member.logged("Traceback")


def test_a_port_that_is_taken_is_a_problem_of_its_listener_until_it_is_free(member: Member) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        taken, free = other.getsockname()[1], ports.free_port()
        expected = member.mount.publish(
            snapshot(listeners=[listener(taken, "taken"), listener(free, "free")])
        )
        member.start().wait_running(expected)
        assert public(member, "free").listening
        waiting.until(lambda: bool(public(member, "taken").problem), what="a problem told")
        assert not public(member, "taken").listening
    waiting.until(lambda: public(member, "taken").listening, what="the listener opened")


def test_a_state_port_that_is_taken_ends_it_with_a_reason(member: Member) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        member.state_port = other.getsockname()[1]
        member.start()
        assert member.process is not None
        assert member.process.wait(timeout=20) == 1
    assert member.logged("cannot listen on 127.0.0.1 port")
    assert not member.logged("Traceback")


def state_status(member: Member, ca: bytes, identity: bytes | None, directory: Path) -> int:
    """The HTTP status of `/state` for a client with this identity. Raises OSError where TLS ends it."""
    context = ssl.create_default_context(cadata=ca.decode())
    if identity is not None:
        file = directory / "client.pem"
        file.write_bytes(identity)
        context.load_cert_chain(file)
    with (
        socket.create_connection(("127.0.0.1", member.state_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=INTERNAL_SERVER_NAME) as secure,
    ):
        secure.sendall(b"GET /state HTTP/1.1\r\nHost: member\r\n\r\n")
        answer = secure.recv(4096)
        if not answer:
            raise ConnectionError
        return int(answer.split(b" ")[1])


def test_only_the_operator_gets_the_state(member: Member, tmp_path: Path) -> None:
    member.mount.publish(snapshot())
    member.start().wait_ready()
    waiting.until(lambda: member.state() is not None, what="the state")
    ours = member.internal.authority
    assert state_status(member, ours.pem, member.internal.operator_identity(), tmp_path) == 200
    assert state_status(member, ours.pem, ours.issue(INTERNAL_SERVER_NAME), tmp_path) == 403
    for stranger in (None, Authority().issue("operator.letterlock.internal")):
        with pytest.raises(OSError):  # noqa: PT011 - a TLS alert, or the connection's end, as it happens to be seen
            state_status(member, ours.pem, stranger, tmp_path)


async def test_the_operator_asks_it_and_goes_on_after_the_internal_ca_was_replaced(
    member: Member,
) -> None:
    def publish() -> tuple[Keep, str]:
        made = issuing.issue_internal("default", datetime.now(UTC))
        names = ("member-tls.pem", INTERNAL_CA_FILE)
        member.mount = type(member.mount)(member.mount.directory, {name: made[name] for name in names})
        return Keep(name="letterlock-internal-default", data=made), member.mount.publish(snapshot())

    async def snapshot_told_to(keep: Keep) -> str:
        try:
            return (await members.poll("127.0.0.1", member.state_port, keep)).snapshot
        except members.MemberUnreachable:
            return ""

    async def wait_for(keep: Keep, expected: str) -> None:
        async with asyncio.timeout(30):
            while await snapshot_told_to(keep) != expected:
                await asyncio.sleep(0.05)

    first, expected = publish()
    member.start()
    await wait_for(first, expected)
    second, expected = publish()
    await wait_for(second, expected)
    with pytest.raises(members.MemberUnreachable):
        await members.poll("127.0.0.1", member.state_port, first)


class _Inbox:
    """Counts what is delivered. Arguments of its hook as aiosmtpd has them."""

    def __init__(self) -> None:
        self.count = 0

    async def handle_DATA(self, *_: SMTP | Session | Envelope) -> str:  # noqa: N802
        self.count += 1
        return "250 taken"


@pytest.mark.parametrize("alive", [True, False], ids=["while it runs", "while it does not run"])
def test_a_changed_policy_makes_deferred_mail_due_at_once(member: Member, alive: bool) -> None:
    taken = nowhere()
    member.mount.publish(taken)
    member.start().wait_ready()
    send(taken.listeners[0].port, 4)
    waiting.until(lambda: member.logged("Delayed:"), what="a deferral")
    if not alive:
        assert member.stop() == 0
    inbox = _Inbox()
    sink = Controller(inbox, hostname="127.0.0.1", port=ports.free_port())
    sink.start()
    try:
        # The first retry would come after 60 s.
        there = destination(routes=[NextHop(host="127.0.0.1", port=sink.port)], tls_mode="No")
        member.mount.publish(taken.model_copy(update={"destinations": [there]}))
        if not alive:
            member.start()
        waiting.until(lambda: inbox.count == 4, seconds=45, what="4 messages delivered")
        waiting.until(lambda: member.queue() == 0, what="an empty queue")
    finally:
        sink.stop()
