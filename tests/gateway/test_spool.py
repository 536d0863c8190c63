"""The spool: what it has taken is there, whatever happens."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterlock_gateway.spool import Hop, NewMessage, NewRecipient, Spool, SpoolFailed, domain_of
from letterlock_gateway.spool.changes import Change
from letterlock_gateway.spool.schedule import Schedule
from letterlock_gateway.spool.writer import Writer
from tests.harness import waiting


def message(*to: str, body: bytes = b"Subject: x\r\n\r\nx\r\n", sender: str = "a@b.example") -> NewMessage:
    return NewMessage(
        sender=sender,
        recipients=tuple(NewRecipient(one) for one in to or ("to@c.example",)),
        body=body,
        icid=1,
    )


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def spool(tmp_path: Path, clock: Clock) -> AsyncIterator[Spool]:
    made = await Spool.open(tmp_path / "2", clock)
    yield made
    await made.close()


async def test_a_stored_message_is_due_at_once_with_all_that_its_delivery_needs(spool: Spool):
    mid = await spool.store(
        NewMessage(
            sender="a@b.example",
            recipients=(NewRecipient("To@C.Example", notify="NEVER", orcpt="rfc822;To@C.Example"),),
            body=b"x\r\n",
            icid=5,
            smtputf8=True,
            body_8bit=True,
            ret="HDRS",
            envid="QQ314159",
            received_protocol="TLSv1.3",
        )
    )
    assert spool.stored.is_set()
    assert spool.queue_length() == 1
    assert await spool.next_due() == 1000.0
    [one] = await spool.due(1000.0, 10)
    assert (one.mid, one.address, one.domain, one.sender) == (mid, "To@C.Example", "c.example", "a@b.example")
    assert (one.notify, one.orcpt, one.ret, one.envid) == ("NEVER", "rfc822;To@C.Example", "HDRS", "QQ314159")
    assert (one.smtputf8, one.body_8bit, one.size, one.received_protocol) == (True, True, 3, "TLSv1.3")
    assert await spool.body(mid) == b"x\r\n"
    assert await spool.due(9e9, 10) == []  # leased


async def test_what_memory_gave_and_what_the_disk_gives_are_equal(tmp_path: Path, clock: Clock):
    spool = await Spool.open(tmp_path / "0", clock)
    await spool.store(message("one@c.example", "two@d.example"))
    fresh = await spool.due(1000.0, 10)
    await spool.close()
    spool = await Spool.open(tmp_path / "0", clock)
    assert await spool.due(1000.0, 10) == fresh
    assert await spool.body(fresh[0].mid) == b"Subject: x\r\n\r\nx\r\n"
    await spool.close()


@pytest.mark.parametrize("size", [0, 100, 64 * 1024, 64 * 1024 + 1, 5_000_000])
async def test_bodies_of_all_sizes_survive_a_restart_and_go_in_the_end(tmp_path: Path, size: int):
    body = os.urandom(size)
    spool = await Spool.open(tmp_path / "0")
    mid = await spool.store(message("one@c.example", "two@d.example", body=body))
    await spool.close()
    spool = await Spool.open(tmp_path / "0")
    assert await spool.body(mid) == body
    one, two = await spool.due(9e9, 10)
    await spool.delivered([one.rid], hop=Hop("h"), reply="250 ok")
    assert await spool.body(mid) == body
    await spool.delivered([two.rid], hop=Hop("h"), reply="250 ok")
    await spool.close()
    assert list((tmp_path / "0" / "bodies").iterdir()) == []
    spool = await Spool.open(tmp_path / "0")
    with pytest.raises(SpoolFailed, match=str(mid)):
        await spool.body(mid)
    await spool.close()


async def test_outcomes_stay_for_tracking(spool: Spool, tmp_path: Path, clock: Clock):
    await spool.store(message("one@c.example", "two@d.example"))
    one, two = await spool.due(1000.0, 10)
    clock.now = 1234.0
    hop = Hop("mx.c.example", "192.0.2.1", "TLSv1.3", "TLS_AES_256_GCM_SHA384", True, "c.example")
    await spool.delivered([one.rid], hop=hop, reply="250 2.0.0 ok")
    await spool.bounced([two.rid], reason="550 no", notice=None)
    with contextlib.closing(sqlite3.connect(tmp_path / "2" / "spool.sqlite3")) as tracking:
        rows = tracking.execute(
            "SELECT outcome, host, protocol, verified, reply, finished_at FROM recipient ORDER BY rid"
        ).fetchall()
    assert rows == [
        ("delivered", "mx.c.example", "TLSv1.3", 1, "250 2.0.0 ok", 1234.0),
        ("bounced", None, None, None, "550 no", 1234.0),
    ]
    assert spool.queue_length() == 0


async def test_a_deferred_recipient_comes_back_at_its_time_with_its_attempt_counted(spool: Spool):
    await spool.store(message())
    [one] = await spool.due(1000.0, 10)
    spool.stored.clear()
    await spool.deferred([one.rid], next_attempt=1060.0, reason="no")
    assert spool.stored.is_set()
    assert await spool.next_due() == 1060.0
    assert await spool.due(1059.0, 10) == []
    [again] = await spool.due(1060.0, 10)
    assert (again.rid, again.attempts, again.next_attempt) == (one.rid, 1, 1060.0)


async def test_a_released_recipient_is_due_as_before(spool: Spool):
    await spool.store(message())
    [one] = await spool.due(1000.0, 10)
    spool.release([one.rid])
    [again] = await spool.due(1000.0, 10)
    assert again == one


async def test_a_bounce_and_the_end_of_what_it_speaks_of_are_one_commit(spool: Spool):
    await spool.store(message())
    [one] = await spool.due(1000.0, 10)
    await spool.bounced([one.rid], reason="no", notice=message("a@b.example", sender="", body=b"N" * 70_000))
    [notice] = await spool.due(1000.0, 10)
    assert (notice.sender, notice.address) == ("", "a@b.example")
    assert await spool.body(notice.mid) == b"N" * 70_000
    assert spool.queue_length() == 1


async def test_hastening_makes_the_chosen_domains_due_now(spool: Spool, clock: Clock):
    await spool.store(message("one@c.example", "two@d.example"))
    one, two = await spool.due(1000.0, 10)
    await spool.deferred([one.rid, two.rid], next_attempt=5000.0, reason="no")
    clock.now = 1100.0
    await spool.hasten(lambda domain: domain == "d.example")
    assert [due.rid for due in await spool.due(1100.0, 10)] == [two.rid]


async def test_hastening_reaches_those_that_are_being_delivered_just_now(spool: Spool, clock: Clock):
    await spool.store(message())
    [one] = await spool.due(1000.0, 10)
    clock.now = 1010.0
    await spool.hasten()
    await spool.deferred([one.rid], next_attempt=5000.0, reason="not trusted")
    assert [due.rid for due in await spool.due(1010.0, 10)] == [one.rid]


async def test_many_stores_share_a_sync(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    transaction = Writer._transaction  # pyright: ignore[reportPrivateUsage]

    def counted(writer: Writer, changes: list[Change]) -> BaseException | None:
        sizes.append(len(changes))
        return transaction(writer, changes)

    monkeypatch.setattr(Writer, "_transaction", counted)
    mids = await asyncio.gather(*(spool.store(message()) for _ in range(400)))
    assert len(set(mids)) == 400
    assert sum(sizes) == 400
    assert len(sizes) <= 20
    assert {mid % 1000 for mid in mids} == {2}  # numbers of worker 2


class Turns:
    """The clock of the writer: each turn of the event loop takes so many seconds."""

    def __init__(self) -> None:
        self.now, self.each, self.looks = 0.0, 0.0, 0

    def monotonic(self) -> float:
        self.now += self.each
        self.looks += 1
        return self.now


async def test_what_comes_while_there_is_work_shares_a_transaction_and_who_is_alone_does_not_wait(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
):
    turns = Turns()
    monkeypatch.setattr("letterlock_gateway.spool.writer.time", turns)
    commits: list[int] = []
    whole = Writer._commit  # pyright: ignore[reportPrivateUsage] - how many came together is seen nowhere else

    def counted(
        self: Writer, entries: list[tuple[Change, asyncio.Future[None]]]
    ) -> list[BaseException | None]:
        commits.append(len(entries))
        return whole(self, entries)

    monkeypatch.setattr(Writer, "_commit", counted)
    turns.each = 2e-6  # nothing else happens: one look
    await spool.store(message())
    assert (turns.looks, commits) == (3, [1])

    async def stored_in_turns(number: int) -> int:
        """How many looks it took."""
        before = turns.looks
        stores: list[asyncio.Task[int]] = []
        for _ in range(number):
            stores.append(asyncio.create_task(spool.store(message())))
            await asyncio.sleep(0)
        await asyncio.gather(*stores)
        return turns.looks - before

    # The loop has work: they wait until the first has done so for 20 ms, however often that happens.
    turns.each = 0.003
    for _ in range(200):
        assert await stored_in_turns(3) == 8
    assert set(commits[1:]) == {3}
    # A machine that has become so slow for good is seen to be idle again, after 150 transactions at most.
    for _ in range(150):
        await spool.store(message())
    assert await stored_in_turns(1) == 3


def test_a_message_with_another_body_is_the_same_otherwise():
    sent = NewMessage(
        *("a@b.example", (NewRecipient("c@d.example"),), b"x\r\n", 7, True, True, "HDRS", "id", "TLSv1.3"),
        *("TLS_AES_256_GCM_SHA384", "mx.b.example [192.0.2.1]", 5),
    )
    assert all(getattr(sent, one.name) != one.default for one in dataclasses.fields(sent))
    assert sent.with_body(b"y\r\n") == dataclasses.replace(sent, body=b"y\r\n")


async def test_numbers_go_on_after_a_restart(tmp_path: Path):
    spool = await Spool.open(tmp_path / "3")
    first = await spool.store(message())
    await spool.close()
    spool = await Spool.open(tmp_path / "3")
    assert await spool.store(message()) == first + 1000
    await spool.close()


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_cancelled_caller_loses_nothing(spool: Spool, size: int):
    tasks = [
        asyncio.create_task(spool.store(message(f"u{n}@c.example", body=b"x" * size))) for n in range(20)
    ]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await spool.store(message("last@c.example"))
    found: dict[str, int] = {}
    deadline = asyncio.get_running_loop().time() + 20
    while len(found) < 21 and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
        found |= {one.address: one.mid for one in await spool.due(9e9, 100)}
    assert len(found) == 21
    for address, mid in found.items():
        assert len(await spool.body(mid)) == (17 if address == "last@c.example" else size)


async def test_one_bad_change_fails_alone(spool: Spool):
    bad = message("bad\udcff@c.example")  # cannot be written as UTF-8
    outcomes = await asyncio.gather(
        *(spool.store(one) for one in (message(), bad, message())), return_exceptions=True
    )
    assert [type(one) for one in outcomes] == [int, SpoolFailed, int]
    assert spool.queue_length() == 2


async def test_a_file_that_cannot_be_written_fails_the_store_and_leaves_nothing(spool: Spool, tmp_path: Path):
    (tmp_path / "2" / "bodies").rmdir()
    with pytest.raises(SpoolFailed, match="FileNotFoundError"):
        await spool.store(message(body=b"x" * 100_000))
    assert spool.queue_length() == 0
    (tmp_path / "2" / "bodies").mkdir()
    await spool.store(message(body=b"x" * 100_000))


async def test_two_processes_never_share_a_spool(spool: Spool, tmp_path: Path):
    with pytest.raises(SpoolFailed, match="another process"):
        await Spool.open(tmp_path / "2")


async def test_a_spool_of_a_newer_program_is_left_alone(tmp_path: Path):
    await (await Spool.open(tmp_path / "0")).close()
    connection = sqlite3.connect(tmp_path / "0" / "spool.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SpoolFailed, match="format 99"):
        await Spool.open(tmp_path / "0")


async def test_a_closed_spool_says_so(tmp_path: Path):
    spool = await Spool.open(tmp_path / "0")
    await spool.close()
    with pytest.raises(SpoolFailed, match="closed"):
        await spool.store(message())


_CHILD = """
import asyncio, sys
from pathlib import Path
from letterlock_gateway.spool import Hop, NewMessage, NewRecipient, Spool

async def client(spool, worker):
    n = 0
    while True:
        n += 1
        size = 100_000 if n % 5 == 0 else 500
        address = f"{worker}-{n}@c.example"
        body = address.encode() * size
        mid = await spool.store(NewMessage("a@b.example", (NewRecipient(address),), body, 1))
        sys.stdout.write(f"{mid} {address} {size}\\n")
        sys.stdout.flush()

async def main():
    spool = await Spool.open(Path(sys.argv[1]))
    await asyncio.gather(*(client(spool, n) for n in range(8)))

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path):
    acknowledged: dict[int, tuple[str, int]] = {}
    for _ in range(3):
        with (tmp_path / "out").open("w+b") as out:
            child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path / "4")], stdout=out)
            path = tmp_path / "out"
            waiting.until(lambda path=path: path.read_bytes().count(b"\n") > 150, what="stores")
            child.send_signal(signal.SIGKILL)
            child.wait()
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                mid, address, size = line.split()
                assert int(mid) not in acknowledged
                acknowledged[int(mid)] = (address, int(size))
    spool = await Spool.open(tmp_path / "4")
    found = {one.mid: one.address for one in await spool.due(9e9, 100_000)}
    for mid, (address, size) in acknowledged.items():
        assert found[mid] == address
        assert await spool.body(mid) == address.encode() * size
    # Each file belongs to a message, also those whose commit the kill prevented.
    assert {int(path.name) for path in (tmp_path / "4" / "bodies").iterdir()} <= set(found)
    await spool.close()


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@B.Example", "b.example"),
        ("a@bücher.example", "xn--bcher-kva.example"),
        ('"a@b"@c.example', "c.example"),
        ("a@[192.0.2.1]", "[192.0.2.1]"),
        ("postmaster", ""),
        ("a@-ü-.example", "-ü-.example"),
    ],
)
def test_domains_are_what_policy_is_looked_up_by(address: str, domain: str):
    assert domain_of(address) == domain


@given(st.lists(st.tuples(st.sampled_from("ardhfl"), st.integers(0, 5), st.integers(0, 9))))
def test_the_schedule_agrees_with_a_simple_model(steps: list[tuple[str, int, int]]):
    schedule, due, leased, hastened = Schedule(), dict[int, float](), dict[int, float](), dict[int, float]()
    for step, rid, time in steps:
        match step:
            case "a" if rid not in due and rid not in leased:
                schedule.add(rid, time)
                due[rid] = time
            case "r" if rid in leased:
                schedule.release(rid)
                due[rid] = min(leased.pop(rid), hastened.pop(rid, 99))
            case "d" if rid in leased:
                schedule.defer(rid, time)
                del leased[rid]
                due[rid] = min(time, hastened.pop(rid, 99))
            case "h":
                schedule.hasten(rid, time)
                if rid in leased:
                    hastened[rid] = time
                elif rid in due:
                    due[rid] = min(due[rid], time)
            case "f":
                schedule.remove(rid)
                for memory in (due, leased, hastened):
                    memory.pop(rid, None)
            case "l":
                taken = schedule.lease(time, 3)
                ready = sorted((when, one) for one, when in due.items() if when <= time)
                assert [due[one] for one in taken] == [when for when, _ in ready[:3]]
                for one in taken:
                    leased[one] = due.pop(one)
            case _:
                pass
        assert len(schedule) == len(due) + len(leased)
        assert schedule.next_due() == (min(due.values()) if due else None)


async def test_a_spool_of_the_version_before_is_taken_over_with_its_mail(tmp_path: Path):
    spool = await Spool.open(tmp_path / "0")
    mid = await spool.store(message("one@c.example"))
    await spool.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "0" / "spool.sqlite3")) as old:
        for index in ("by_message_id", "by_sender", "by_address"):
            old.execute(f"DROP INDEX {index}")
        for column in ("message_id", "client", "about"):
            old.execute(f"ALTER TABLE message DROP COLUMN {column}")
        for column in ("ip", "cipher", "matched_name", "last_attempt", "told_delay"):
            old.execute(f"ALTER TABLE recipient DROP COLUMN {column}")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    spool = await Spool.open(tmp_path / "0")
    [one] = await spool.due(9e9, 10)
    assert (one.mid, one.address, one.told_delay) == (mid, "one@c.example", False)
    await spool.delivered([one.rid], hop=Hop("h"), reply="250 ok")
    assert await spool.store(message()) == mid + 1000
    await spool.close()


async def test_what_ended_before_the_retention_is_forgotten(spool: Spool, clock: Clock, tmp_path: Path):
    await spool.store(message("old@c.example"))
    await spool.store(message("waits@c.example"))
    old, waits = await spool.due(1000.0, 10)
    await spool.delivered([old.rid], hop=Hop("h"), reply="250 ok")
    spool.release([waits.rid])
    clock.now = 5000.0
    await spool.store(message("young@c.example"))
    [_, young] = await spool.due(5000.0, 10)
    await spool.delivered([young.rid], hop=Hop("h"), reply="250 ok")
    await spool.prune(2000.0)
    with contextlib.closing(sqlite3.connect(tmp_path / "2" / "spool.sqlite3")) as tracking:
        rows = tracking.execute("SELECT address FROM recipient ORDER BY rid").fetchall()
        count = tracking.execute("SELECT count(*) FROM message").fetchone()
    assert rows == [("waits@c.example",), ("young@c.example",)]
    assert count == (2,)


async def test_numbers_of_what_is_forgotten_are_not_used_again(tmp_path: Path, clock: Clock):
    """A peer that once took number 7 from here would take the next 7 for the same, and its mail would be lost."""
    spool = await Spool.open(tmp_path / "2", clock)
    mid = await spool.store(message("old@c.example", "older@c.example"))
    rids = [one.rid for one in await spool.due(clock.now, 10)]
    await spool.delivered(rids, hop=Hop("h"), reply="250 ok")
    await spool.prune(clock.now + 1)
    await spool.close()
    spool = await Spool.open(tmp_path / "2", clock)
    assert await spool.store(message()) == mid + 1000
    [one] = await spool.due(clock.now, 10)
    assert one.rid == max(rids) + 1000
    await spool.close()


async def test_of_one_domain_no_more_is_leased_than_there_is_room_for(spool: Spool):
    for n in range(5):
        await spool.store(message(f"{n}@slow.example"))
    await spool.store(message("a@fast.example"))
    room = {"slow.example": 2, "fast.example": 9}
    due = await spool.due(9e9, 10, room.__getitem__)
    assert sorted(one.domain for one in due) == ["fast.example", "slow.example", "slow.example"]
    assert spool.waits_for_room("slow.example")
    assert await spool.next_due() is None
    again = await spool.due(9e9, 10, room.__getitem__)
    assert len(again) == 2
    assert len(await spool.due(9e9, 10)) == 1
    assert not spool.waits_for_room("slow.example")


async def test_nothing_waits_beyond_a_time_after_the_clock_was_set_back(spool: Spool, clock: Clock):
    await spool.store(message())
    [one] = await spool.due(1000.0, 10)
    await spool.deferred([one.rid], next_attempt=90_000.0, reason="no")
    assert spool.no_later_than(2000.0) == 1
    assert spool.no_later_than(2000.0) == 0
    assert [due.rid for due in await spool.due(2000.0, 10)] == [one.rid]
