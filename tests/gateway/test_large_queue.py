"""Queues of many messages: starting, memory, slow destinations and tracking stay within bounds."""

import sys
import time
import tracemalloc
from pathlib import Path

import psutil

from letterlock_gateway.spool import NewMessage, NewRecipient, Spool, schema
from letterlock_gateway.spool.changes import Finish, Hop, Insert
from letterlock_gateway.spool.tracking import Query, find
from tests.gateway.test_deliver import to_mailbox
from tests.harness import mounts, waiting
from tests.harness.deliveries import delivering, route, until
from tests.harness.faulty_smtp import FaultySMTP
from tests.harness.member import Member
from tests.harness.mounts import Files, destination
from tests.harness.ports import free_port

_BODY = b"Message-ID: <%d@sender.example>\r\nSubject: one of many\r\n\r\n" + b"text\r\n" * 20
_DOMAINS = 500


def fill(
    directory: Path, count: int, *, delivered: bool = False, since: float = 1e9, step: float = 1
) -> None:
    """A spool with so many messages, as many stores would have left it, one every `step` seconds."""
    directory.mkdir(parents=True)
    connection = schema.open_for_writing(directory)
    connection.execute("BEGIN")
    for n in range(1, count + 1):
        to = NewRecipient(f"user{n % 9973}@d{n % _DOMAINS}.example")
        body = _BODY % n
        made = NewMessage(f"s{n % 7919}@sender.example", (to,), body, icid=1)
        number = n * 1000
        rids, at = range(number, number + 1000, 1000), since + n * step
        Insert(number, rids, made, at, len(body), False, message_id=f"<{n}@sender.example>").apply(connection)
        if delivered:
            hop = Hop("mx.example", "192.0.2.1", "TLSv1.3", "TLS_AES_256_GCM_SHA384", True, "d.example")
            Finish((number,), "delivered", since + n * step, hop, "250 2.0.0 Ok: queued as 4XyZ").apply(
                connection
            )
    connection.execute("COMMIT")
    connection.close()


async def opened(directory: Path, count: int) -> tuple[float, float]:
    """Seconds to open a spool with so many waiting messages, and bytes of memory for each."""
    tracemalloc.start()
    try:
        began = time.monotonic()
        spool = await Spool.open(directory)
        seconds = time.monotonic() - began
        size = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert spool.queue_length() == count
    assert len(await spool.due(9e9, 100)) == 100
    await spool.close()
    return seconds, size


async def test_a_long_queue_is_taken_up_at_once_and_costs_little_memory(tmp_path: Path) -> None:
    fill(tmp_path / "0", 20_000)
    seconds, size = await opened(tmp_path / "0", 20_000)
    assert seconds < 5  # 0.2 s on an idle machine, with tracemalloc
    assert size < 500  # the texts stay on disk


async def test_thousands_of_messages_to_a_slow_domain_delay_no_other(tmp_path: Path) -> None:
    async with FaultySMTP() as slow, FaultySMTP() as fast, delivering(tmp_path) as made:
        slow.pause = 0.5
        there = destination(
            "slow.example", resource="slow", tls_mode="No", routes=[route(slow.port)], connections=2
        )
        made.apply(there, to_mailbox(fast))
        for _ in range(30):
            await made.send(*(f"{n}@slow.example" for n in range(100)))
        waited: list[float] = []
        for n in range(1, 6):
            began = time.monotonic()
            await made.send()
            await until(lambda n=n: len(fast.delivered) == n, "the other domain's message")
            waited.append(time.monotonic() - began)
        # Some milliseconds on an idle machine; behind the others it would be minutes.
        assert max(waited) < 5.0
        assert made.spool.queue_length() > 1000
        assert made.spool.waits_for_room("slow.example")


def test_tracking_finds_by_every_key_without_reading_everything(tmp_path: Path) -> None:
    count = 20_000
    fill(tmp_path / "0", count, delivered=True)
    for query in (
        Query(mids=(7_000_000 + 1000 * 42,)),
        Query(message_id="777@sender.example"),
        Query(sender="S42@sender.example"),
        Query(recipient="user42@d42.example"),
        Query(recipient="@d42.example", limit=5),
        Query(sender="@sender.example", since=1e9 + count - 10),
    ):
        began = time.monotonic()
        found = find(tmp_path, query)
        assert found, query
        assert time.monotonic() - began < 1
    assert find(tmp_path, Query(waiting=True)) == []
    assert find(tmp_path, Query(sender="<>")) == []
    assert find(tmp_path, Query(sender="@%.example")) == []


def measure_member(directory: Path) -> None:
    """A whole member on 100,000 messages that wait for 500 domains, of which none can be reached."""
    for count in (0, 100_000):
        place = directory / f"member-{count}"
        if count:
            fill(place / "spool" / "0", count, since=time.time() - 600, step=0.006)
        member = Member(place, workers=1)
        files = Files()
        nowhere = mounts.destination(routes=[route(free_port())])
        snapshot = mounts.snapshot(files, destinations=[nowhere])
        member.mount.publish(snapshot, files)
        began = time.monotonic()
        with member:
            member.wait_ready()
            ready = time.monotonic() - began
            [worker] = member.worker_pids()
            first = psutil.Process(worker).memory_info().rss >> 20
            if count:
                log = member.log_file
                waiting.until(lambda log=log: log.stat().st_size > 2 << 20, every=0.5, seconds=300)
            after = psutil.Process(worker).memory_info().rss >> 20
        print(f"member with {count}: ready in {ready:.1f} s, worker {first} MiB, {after} MiB under way")


def measure(directory: Path) -> None:
    """Numbers for a machine: `python -m tests.gateway.test_large_queue DIRECTORY`."""
    import asyncio

    fill(directory / "queue" / "0", 100_000)
    seconds, size = asyncio.run(opened(directory / "queue" / "0", 100_000))
    print(f"100,000 waiting: opened in {seconds:.2f} s, {size:.0f} bytes of memory each")
    measure_member(directory)
    fill(directory / "tracking" / "0", 1_000_000, delivered=True)
    for name, query in (
        ("message id", Query(message_id="777777@sender.example")),
        ("mid", Query(mids=(500_000_000,))),
        ("sender", Query(sender="s42@sender.example")),
        ("recipient", Query(recipient="user42@d42.example")),
        ("recipient domain", Query(recipient="@d42.example")),
        ("sender domain since", Query(sender="@sender.example", since=1e9 + 999_000)),
        ("time alone", Query(since=1e9 + 999_990)),
        ("time alone, nothing found", Query(since=2e9)),
        ("nothing found, sender domain", Query(sender="@nowhere.example")),
        ("nothing found, recipient domain", Query(recipient="@nowhere.example")),
        ("nothing found, recipient", Query(recipient="nobody@nowhere.example")),
        ("what waits", Query(waiting=True)),
    ):
        began = time.monotonic()
        found = find(directory / "tracking", query)
        print(f"by {name}: {len(found)} in {(time.monotonic() - began) * 1000:.0f} ms")


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
