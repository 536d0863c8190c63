"""What got its 250 is delivered or bounced, whatever happens to the machine; ids are counted on both ends.

`make durability` runs the same with 200 kills (`LETTERLOCK_KILLS`).
"""

import itertools
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from letterlock_gateway.spool.tracking import Query, find
from tests.harness import waiting
from tests.harness.certificates import Authority
from tests.harness.faults import Faults, State
from tests.harness.member import Member
from tests.harness.postfix import Postfix
from tests.harness.relay import LISTENER_NAME, MAILBOX_DOMAIN, Relay
from tests.mail import clients
from tests.mail.between import Between
from tests.mail.clients import Record
from tests.mail.ledger import Ledger

KILLS = int(os.environ.get("LETTERLOCK_KILLS", "24"))
_REFUSED = f"refused@{MAILBOX_DOMAIN}"
# A copy may be there only of what the receiver took just before a kill: as long as an outcome may take to be
# written down on a busy machine.
_JUST_BEFORE = 5.0


@contextmanager
def between(
    directory: Path, authority: Authority, faults: Faults | None = None, **fields: Any
) -> Generator[Between]:
    """A member with two workers, and a real Postfix behind it that refuses one address."""
    receiver = Postfix.receiving(
        certificate=authority.issue(MAILBOX_DOMAIN),
        settings={
            "smtpd_recipient_restrictions": f"check_recipient_access inline:{{ {{ {_REFUSED} = 550 5.1.1 no }} }}"
        },
    )
    member = Member(directory, workers=2, environment=faults.environment if faults else None)
    relay = Relay(member, receiver.port, authority.issue(LISTENER_NAME), [authority.pem], **fields)
    expected = relay.publish()
    try:
        with receiver, member:
            member.wait_ready()
            member.wait_running(expected)
            yield Between(relay, member, receiver)
    finally:
        receiver.remove()


@contextmanager
def load(made: Between, count: int = 6) -> Generator[Record]:
    """So many clients send without pause, one of them to the address that is refused.

    They verify whom they talk to: while the member is dead its port is free, and somebody else's promise is not ours.
    """
    record = Record()
    ending = threading.Event()
    context = ssl.create_default_context(cadata=made.relay.trusted[0].decode())
    context.check_hostname = False
    port = made.port

    def client(number: int) -> None:
        to = _REFUSED if number == 0 else f"someone@{MAILBOX_DOMAIN}"
        size = 100_000 if number == 1 else 4096  # bodies in files, too
        while not ending.is_set():
            failures = len(record.failures)
            clients.send_one(port, record, context, to=to, sender=f"sender@{MAILBOX_DOMAIN}", size=size)
            if len(record.failures) != failures:
                ending.wait(0.05)

    threads = [threading.Thread(target=client, args=(n,), name=f"client {n}") for n in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield record
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def attempts(record: Record, more: int) -> Callable[[], bool]:
    """Whether `more` sessions have ended since this call, well or not."""
    so_far = len(record.acknowledged) + len(record.failures)
    return lambda: len(record.acknowledged) + len(record.failures) >= so_far + more


def settle(made: Between, record: Record, *, seconds: float = 120) -> Ledger:
    """Wait until nothing is missing and the queue is empty; nothing came in clear."""
    ledger = Ledger(made.receiver)
    try:
        waiting.until(
            lambda: not ledger.missing(record.acknowledged) and made.member.queue() == 0,
            seconds=seconds,
            every=0.5,
            what="everything delivered or bounced, and an empty queue",
        )
    except TimeoutError:
        missing = ledger.missing(record.acknowledged)
        raise AssertionError(
            f"lost after 250: {sorted(missing)[:20]} ({len(missing)} of {len(record.acknowledged)});"
            f" queue {made.member.queue()}"
        ) from None
    ledger.read()
    assert ledger.in_clear == []
    return ledger


def check_copies(ledger: Ledger, kills: list[float]) -> None:
    """Every further copy is explained: the receiver had taken the one before just before a kill."""
    for identity, times in ledger.copies().items():
        for before, after in itertools.pairwise(times):
            assert any(before - 1 <= kill <= before + _JUST_BEFORE for kill in kills), (
                f"{identity} came at {before} and {after}, and nothing was killed in between"
            )


def check_done_is_done(log: list[dict[str, Any]]) -> None:
    """What the log calls done is on disk as delivered: no later start of its delivery, whatever was killed."""
    done: set[int] = set()
    for line in log:
        words, rids = str(line.get("message", "")), cast("list[int]", line.get("rid", []))
        if words.startswith("Delivery start"):
            assert done.isdisjoint(rids), f"sent again though it was done: {words}"
        elif words.startswith("Message done"):
            done.update(rids)
    assert done


def check_tracked(made: Between, record: Record, ledger: Ledger) -> None:
    """Tracking tells of every message that was acknowledged or came, how it came and how it went (D12)."""
    found = find(made.member.spool, Query(limit=1_000_000))
    tracked = {one["messageID"]: one for one in found if "messageID" in one}
    assert not set(record.acknowledged) - tracked.keys()
    for identity in ledger.arrived:
        [to] = tracked[identity]["recipients"]
        assert (to["state"], to["protocol"], to["verified"]) == ("delivered", "TLSv1.3", True)
        assert (to["matchedName"], to["ip"], to["reply"][:3]) == (MAILBOX_DOMAIN, "127.0.0.1", "250")
        assert tracked[identity]["receivedOver"]["protocol"] == "TLSv1.3"
    for identity in ledger.bounced:
        [to] = tracked[identity]["recipients"]
        assert (to["state"], "5.1.1" in to["reply"]) == ("bounced", True)


def test_kill_9_at_random_moments_loses_nothing(tmp_path: Path, authority: Authority) -> None:
    kills: list[float] = []
    choose = random.Random()
    began = time.monotonic()
    with between(tmp_path, authority) as made:
        with load(made) as record:
            for _ in range(KILLS):
                more = choose.randrange(25)
                waiting.until(clients.after(record, more), what=f"{more} more messages", seconds=120)
                workers = made.member.worker_pids()
                kills.append(time.time())
                if workers and choose.random() < 0.5:
                    made.member.kill_worker(choose.choice(workers))
                else:
                    made.member.kill9()
                    made.member.start()
            waiting.until(clients.after(record, 20), what="messages after the last kill", seconds=120)
        sent = time.monotonic() - began
        ledger = settle(made, record)
        check_copies(ledger, kills)
        check_done_is_done(made.member.log())
        check_tracked(made, record, ledger)
    copies = sum(len(times) - 1 for times in ledger.copies().values())
    print(
        f"{len(kills)} kills in {sent:.0f} s: {len(record.acknowledged)} messages acknowledged,"
        f" {len(ledger.arrived)} delivered, {len(ledger.bounced)} bounced, 0 lost, {copies} came twice"
    )
    assert ledger.bounced


_DISK_FAULTS = {
    "full": {"full": 1},
    "sync fails": {"sync_fails": 1},
    "writing fails now and then": {"write_fails": 1, "of_thousand": 300},
    "reading fails now and then": {"read_fails": 1, "of_thousand": 300},
}


def test_a_disk_that_is_full_or_fails_loses_nothing_and_sends_nothing_twice(
    tmp_path: Path, authority: Authority
) -> None:
    faults = Faults(tmp_path, below=tmp_path / "spool")
    with between(tmp_path, authority, faults) as made:
        with load(made) as record:
            for name, fault in _DISK_FAULTS.items():
                waiting.until(clients.after(record, 20), what=f"messages before: {name}", seconds=60)
                tried = attempts(record, 20)
                faults.set(**fault)
                waiting.until(tried, what=f"attempts while: {name}", seconds=60)
                faults.set(**State().__dict__)
        # Never anything but "try again later", or a connection that is gone.
        assert not [one for one in record.failures if "SMTPDataError before 250: (5" in one]
        assert any(code in one for one in record.failures for code in ("(451", "(452"))
        ledger = settle(made, record)
        assert ledger.copies() == {}


def test_kill_9_on_a_bad_disk_loses_nothing(tmp_path: Path, authority: Authority) -> None:
    faults = Faults(tmp_path, below=tmp_path / "spool")
    kills: list[float] = []
    choose = random.Random()
    with between(tmp_path, authority, faults) as made:
        with load(made) as record:
            for _ in range(max(KILLS // 6, 3)):
                waiting.until(clients.after(record, 10), what="messages", seconds=120)
                tried = attempts(record, 10)
                faults.set(**choose.choice(list(_DISK_FAULTS.values())))
                waiting.until(tried, what="attempts on the bad disk", seconds=60)
                made.member.kill9()
                kills.append(time.time())
                made.member.start()
                # It comes up on the bad disk, as far as it does, and the disk gets well.
                waiting.until(made.member.worker_pids, what="workers", seconds=60)
                faults.set(**State().__dict__)
            made.member.wait_ready(seconds=60)
        check_copies(settle(made, record), kills)
        check_done_is_done(made.member.log())


@pytest.mark.parametrize("seconds", [-86_400, 7_200], ids=["a day back", "two hours forward"])
def test_a_clock_that_jumps_keeps_no_mail_waiting(tmp_path: Path, authority: Authority, seconds: int) -> None:
    faults = Faults(tmp_path, below=tmp_path / "spool")
    with between(tmp_path, authority, faults) as made:
        made.receiver.stop()
        with load(made, 3) as record:
            waiting.until(clients.after(record, 20), what="messages that wait", seconds=60)
        waiting.until(lambda: made.member.logged("Delayed:"), what="a deferral")
        faults.set(clock_seconds=seconds)
        made.receiver.start()
        with load(made, 3) as later:
            waiting.until(clients.after(later, 10), what="messages after the jump", seconds=60)
        record.acknowledged += later.acknowledged
        ledger = settle(made, record, seconds=60)
        assert made.member.logged("The clock was set")
        assert ledger.copies() == {}
