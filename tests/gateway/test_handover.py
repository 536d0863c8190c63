"""A member that is to go: nothing that it holds is lost or delivered twice, whatever its peer does meanwhile."""

import asyncio
import contextlib
import math
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from letterlock_api.snapshot import Drain, NextHop, RetrySchedule, Snapshot, SnapshotDelivery
from letterlock_gateway.handover import letters as handed_letters
from letterlock_gateway.handover import taking
from letterlock_gateway.spool import Handed, HandedRecipient, NewMessage, NewRecipient, Spool
from tests.harness import letters, ports, waiting
from tests.harness.member import Member
from tests.harness.mounts import destination, listener, snapshot
from tests.harness.postfix import Postfix

ORDER = 3
PEER = "127.0.0.2"
LETTER_SIZE = 50_000
HANDED = Handed(
    "a spool",
    7,
    NewMessage(
        sender="a@sender.example",
        recipients=(NewRecipient("x@a.example", notify="FAILURE"), NewRecipient("y@b.example")),
        body=b"Message-ID: <1@sender.example>\r\n\r\ntext\n.\r\n",
        icid=0,
        envid="id",
    ),
    1000.0,
    (HandedRecipient(11, 4, 5000.0, told_delay=True), HandedRecipient(12, 0, 1000.0, told_delay=False)),
)


def test_a_letter_comes_out_as_it_went_in() -> None:
    assert handed_letters.decode(handed_letters.encode(HANDED)) == HANDED


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"[1]\nx", b'{"recipients": []}\n', b"\xff\n", b'{"recipients": [[1]]}\n']
)
def test_what_is_no_letter_is_refused(content: bytes) -> None:
    with pytest.raises(handed_letters.NotALetter):
        handed_letters.decode(content)


def test_the_same_worker_takes_a_message_however_many_of_its_recipients_come() -> None:
    part = HANDED.without({11})
    assert {taking.chosen(handed_letters.encode(one), 5) for one in (HANDED, part)} == {
        taking.chosen(handed_letters.encode(HANDED), 5)
    }


async def test_what_comes_twice_is_stored_once_and_waits_as_it_did(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path / "0")
    try:
        mid = await spool.adopt(HANDED.without({12}))
        await spool.adopt(HANDED)
        assert await spool.adopt(HANDED) != mid
        await asyncio.gather(*(spool.adopt(HANDED) for _ in range(5)))
        assert spool.queue_length() == 2
        assert [one.address for one in await spool.due(4999.0, 10)] == ["y@b.example"]
        (waiting_one,) = await spool.withhold(10)
        assert (waiting_one.address, waiting_one.attempts, waiting_one.next_attempt) == (
            "x@a.example",
            4,
            5000.0,
        )
        assert (waiting_one.queued_at, waiting_one.told_delay, waiting_one.notify) == (
            1000.0,
            True,
            "FAILURE",
        )
        assert await spool.body(waiting_one.mid) == HANDED.message.body
    finally:
        await spool.close()
    again = await Spool.open(tmp_path / "0")
    try:
        assert again.queue_length() == 2
        await again.adopt(HANDED)
        (late,) = [one for one in await again.due(math.inf, 10) if one.address == "x@a.example"]
        assert (late.attempts, late.next_attempt) == (4, 5000.0)
        assert again.queue_length() == 2
    finally:
        await again.close()


async def test_a_large_body_is_adopted_too(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path / "0")
    try:
        large = replace(HANDED, message=replace(HANDED.message, body=b"x" * 3_000_000))
        mid = await spool.adopt(large)
        assert await spool.adopt(large) == mid
        assert await spool.body(mid) == large.message.body
    finally:
        await spool.close()


class TwoMembers:
    """Two members of one gateway, and a next hop that is not there yet."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        options = ("--grace", "2")
        self.going = Member(folder / "going", name="default-1", workers=workers, options=options)
        self.staying = Member(
            folder / "staying",
            name="default-0",
            workers=workers,
            options=options,
            beside=self.going,
            address=PEER,
        )
        self.port = ports.free_port()
        self.next_hop = ports.free_port()
        self.snapshot = self.make()

    def make(self, *drains: Drain, admits: list[str] | None = None) -> Snapshot:
        hop = NextHop(host="127.0.0.1", port=self.next_hop)
        return snapshot(
            listeners=[listener(self.port, address="0.0.0.0")],
            destinations=[destination(routes=[hop], tls_mode="No")],
            delivery=SnapshotDelivery(retry=RetrySchedule(initial=1, max=2)),
            drains=list(drains),
            admits=admits,
        )

    def publish(self, *drains: Drain, admits: list[str] | None = None) -> None:
        self.snapshot = self.make(*drains, admits=admits)
        for member in (self.going, self.staying):
            member.mount.publish(self.snapshot)

    def send(self, count: int, start: int = 0, *, size: int = 2000) -> list[str]:
        """Have the one that is to go accept so many; each for two domains. Their message ids."""
        sent: list[str] = []
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
            for number in range(start, start + count):
                identity = f"<{number}@client.example>"
                message = letters.sized_letter(size, identity).replace(b"\n", b"\r\n")
                client.sendmail("sender@client.example", ["one@a.example", "two@b.example"], message)
                sent.append(identity)
        return sent

    def receiver(self) -> Postfix:
        return Postfix.receiving(domains=("a.example", "b.example", "client.example"), port=self.next_hop)

    def drained(self) -> bool:
        state = self.going.state()
        return state is not None and state.drained == ORDER and state.queue == 0

    def order(self, *peers: str) -> Drain:
        return Drain(member="default-1", order=ORDER, peers=list(peers))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoMembers]:
    made = TwoMembers(tmp_path)
    made.publish()
    with made.going, made.staying:
        for member in (made.going, made.staying):
            member.wait_ready()
        yield made


def test_a_member_that_was_not_named_yet_takes_no_mail_from_anybody(tmp_path: Path) -> None:
    two = TwoMembers(tmp_path)
    two.publish(admits=["default-1"])
    with two.going, two.staying:
        two.going.wait_ready()
        two.staying.wait_running(two.snapshot.hash())
        assert not two.staying.ready()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((PEER, two.port), timeout=5)
        sent = two.send(3)
        two.publish(two.order(PEER), admits=["default-1"])
        waiting.until(
            lambda: two.going.logged("may not take mail yet"), seconds=60, what="a peer that takes nothing"
        )
        waiting.until(lambda: two.going.queue() == 2 * len(sent), what="all of it where it was sent")
        assert two.staying.queue() == 0
        two.publish(two.order(PEER), admits=["default-0", "default-1"])
        two.staying.wait_ready()
        waiting.until(two.drained, seconds=60, what="a member without mail")
        waiting.until(lambda: two.staying.queue() == 2 * len(sent), what="all of it at the peer")
        socket.create_connection((PEER, two.port), timeout=5).close()


def arrived(receiver: Postfix, sent: list[str]) -> Callable[[], bool]:
    """Whether each came for both recipients, and none came more often."""
    return lambda: receiver.message_ids() == sorted([*sent, *sent])


def test_a_queue_for_a_dead_destination_goes_to_the_peer_and_arrives_once(two: TwoMembers) -> None:
    sent = [*two.send(40), *two.send(2, 40, size=400_000)]
    two.publish(two.order(PEER))
    waiting.until(two.drained, seconds=90, what="a member without mail")
    # Its workers tell the peer's supervisor in turn: what it says of its queue follows.
    waiting.until(lambda: two.staying.queue() == 2 * len(sent), what="all of it at the peer")
    state = two.staying.state()
    assert state is not None
    assert state.drained == 0
    assert not two.going.ready()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", two.port), timeout=5)
    assert two.going.stop() == 0
    with two.receiver() as receiver:
        waiting.until(arrived(receiver, sent), seconds=90, what="every message once for each recipient")
    assert two.staying.logged("taken over (default-1 MID")


def test_a_member_that_is_to_go_is_empty_only_when_its_clients_are_gone(two: TwoMembers) -> None:
    with contextlib.closing(smtplib.SMTP("127.0.0.1", two.port, timeout=60)) as client:
        client.ehlo()
        client.mail("sender@client.example")
        client.rcpt("one@a.example")
        assert client.docmd("DATA")[0] == 354
        two.publish(two.order(PEER))
        waiting.until(lambda: not two.going.ready(), what="the order to go")
        assert not two.drained()
        client.send(b"Message-ID: <late@client.example>\r\n\r\nlate\r\n.\r\n")
        assert client.getreply()[0] == 250
    waiting.until(two.drained, seconds=60, what="a member without mail")
    waiting.until(lambda: two.staying.queue() == 1, what="the last message at the peer")


def test_one_that_is_killed_on_the_way_loses_nothing_and_nothing_arrives_twice(two: TwoMembers) -> None:
    sent = [*two.send(80), *two.send(80, 80)]
    two.publish(two.order(PEER))
    waiting.until(two.staying.queue, seconds=60, what="the first messages at the peer", every=0.01)
    two.going.kill9()
    two.going.start()
    waiting.until(two.drained, seconds=120, what="a member without mail")
    with two.receiver() as receiver:
        waiting.until(arrived(receiver, sent), seconds=120, what="every message once for each recipient")


def test_without_a_peer_it_delivers_by_itself_and_then_is_empty(two: TwoMembers) -> None:
    sent = two.send(5)
    two.publish(two.order())
    with two.receiver() as receiver:
        waiting.until(arrived(receiver, sent), seconds=60, what="every message once for each recipient")
        waiting.until(two.drained, seconds=60, what="a member without mail")


def test_a_peer_that_is_not_there_holds_nothing_up_and_gets_the_rest_when_it_comes(two: TwoMembers) -> None:
    two.staying.kill9()
    sent = two.send(5)
    two.publish(two.order(PEER))
    waiting.until(lambda: two.going.logged("Mail cannot be handed on"), seconds=60, what="a word about it")
    with two.receiver() as receiver:
        waiting.until(arrived(receiver, sent), seconds=60, what="delivery by itself meanwhile")
    two.staying.start()
    waiting.until(two.drained, seconds=60, what="a member without mail")


def test_one_that_shall_stay_after_all_listens_again(two: TwoMembers) -> None:
    two.send(3)
    two.publish(two.order(PEER))
    waiting.until(two.drained, seconds=60, what="a member without mail")
    two.publish()
    two.going.wait_ready()
    waiting.until(lambda: ports.listening(two.port), what="a listener")
    sent = two.send(2, 100)
    waiting.until(
        lambda: (state := two.going.state()) is not None and state.drained == 0,
        what="an order that is taken back",
    )
    with two.receiver() as receiver:
        waiting.until(
            lambda: set(sent) <= set(receiver.message_ids()), seconds=60, what="mail by this member"
        )


def test_an_answer_that_is_lost_makes_nothing_arrive_twice(tmp_path: Path) -> None:
    two = TwoMembers(tmp_path, workers=1)
    two.publish()
    with two.going, two.staying, Deaf(two.going.state_port) as deaf:
        two.going.wait_ready()
        two.staying.wait_ready()
        sent = two.send(10, size=LETTER_SIZE)
        two.publish(two.order(deaf.address))
        waiting.until(lambda: deaf.swallowed >= 3, seconds=60, what="answers that are lost")
        assert not two.drained()
        deaf.swallowing = False
        waiting.until(two.drained, seconds=90, what="a member without mail")
        with two.receiver() as receiver:
            waiting.until(arrived(receiver, sent), seconds=60, what="every message once for each recipient")


class Deaf:
    """Hands connections on to the peer, and loses what it answers to a letter."""

    address = "127.0.0.3"

    def __init__(self, port: int) -> None:
        self.swallowing = True
        self.swallowed = 0
        self._port = port
        self._socket = socket.create_server((self.address, port))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection((PEER, self._port), timeout=60) as peer,
        ):
            sent = [0]
            threading.Thread(target=self._pump, args=(client, peer, sent), daemon=True).start()
            while data := peer.recv(65536):
                # A client's handshake is far smaller than that, and the letter far larger.
                if not (self.swallowing and sent[0] > LETTER_SIZE // 2):
                    client.sendall(data)
            if self.swallowing:
                self.swallowed += 1
            client.shutdown(socket.SHUT_RDWR)  # or the other thread's read would keep it open

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, sent: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sent[0] += len(data)
                target.sendall(data)
