"""What workers count together: over one memory, in real processes at once, and after one of them was killed."""

import os
import signal
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterlock_gateway import counters
from letterlock_gateway.counters import Counters, Tally
from letterlock_gateway.deliver.rates import Rates
from letterlock_gateway.deliver.shares import Shares
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.limits import Limits


class Clock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def shared(workers: int = 2, clock: Clock | None = None) -> list[Tally]:
    memory = Counters.create(workers)
    return [memory.tally(number, clock or Clock()) for number in range(workers)]


def test_each_sees_what_the_others_have_counted():
    one, two, three = shared(3)
    key = one.key("host", "192.0.2.1")
    one.add(key, 2)
    two.add(two.key("host", "192.0.2.1"), 3)
    assert (one.own(key), one.others(key), one.total(key)) == (2, 3, 5)
    assert three.by_worker(key) == [2, 3, 0]
    assert three.total(three.key("host", "192.0.2.2")) == 0
    two.add(key, -3)
    assert one.total(key) == 2


def test_what_runs_out_is_not_counted_any_more_and_begins_anew():
    clock = Clock()
    one, two = shared(2, clock)
    key = one.key("recipients", "192.0.2.1")
    assert one.take(key, 4, 5, clock.now + 60)
    assert not two.take(key, 2, 5, clock.now + 60)
    clock.now += 61
    assert two.take(key, 2, 5, clock.now + 60)
    assert one.own(key) == 0


def test_a_worker_that_has_ended_gives_back_what_it_held_and_what_was_sent_stays_counted():
    clock = Clock()
    one, two = shared(2, clock)
    held, sent = one.key("connections"), one.key("sent")
    one.add(held, 7)
    one.add(sent, 7, clock.now + 3600)
    one.release()
    assert (two.total(held), two.total(sent)) == (0, 7)


def test_more_keys_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    for name, value in (("_BUCKETS", 1), ("_SLOTS", 8), ("_TABLE", 16)):
        monkeypatch.setattr(counters, name, value)
    clock = Clock()
    one, two = shared(2, clock)
    sent = [one.key("sent", str(n)) for n in range(8)]
    for number, key in enumerate(sent):
        one.add(key, 1, clock.now + 100 + number)
    held = [one.key("held", str(n)) for n in range(10)]
    one.add(held[0], 1)
    assert one.total(sent[0]) == 0, "what runs out soonest has made room"
    assert [one.total(key) for key in sent[1:]] == [1] * 7
    for key in held[1:]:
        one.add(key, 1)
    assert [one.own(key) for key in held] == [1] * 10, "its own it never forgets"
    assert [two.total(key) for key in held] == [1] * 8 + [0] * 2
    for key in held:
        one.add(key, -1)
    assert [one.own(key) for key in held] == [0] * 10
    one.release()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.booleans()), max_size=300))
def test_it_counts_as_a_plain_counter_does(steps: list[tuple[int, int, bool]]):
    tallies = _KEPT
    for one in tallies:
        one.release()
    plain: Counter[tuple[int, int]] = Counter()
    for worker, name, up in steps:
        if not up and not plain[worker, name]:
            continue
        plain[worker, name] += 1 if up else -1
        tallies[worker].add(tallies[worker].key(str(name)), 1 if up else -1)
    for name in range(41):
        key = tallies[0].key(str(name))
        assert tallies[0].by_worker(key) == [plain[worker, name] for worker in range(3)]


_KEPT = shared(3)


def test_processes_at_once_never_pass_the_limit():
    """Each takes one of three places and gives it back, 4,000 times; each sees the total while it holds one."""
    memory = Counters.create(5)
    key = memory.tally(4).key("places")
    children: list[int] = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            over = got = 0
            mine = memory.tally(number)
            for _ in range(4000):
                if mine.take(key, 1, 3):
                    got += 1
                    # A place that was taken is counted: more than three takers would show here. A fourth that is
                    # only looking may be seen for a moment, never for long.
                    over += all(mine.total(key) > 3 + 1 for _ in range(20))
                    mine.add(key, -1)
            os._exit(0 if got > 100 and not over else 1)
        children.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert statuses == [0] * 4
    assert memory.tally(4).total(key) == 0


def test_places_that_are_held_are_never_more_than_the_limit():
    """Nobody gives back: however many processes ask at once, exactly the limit is handed out or a little less."""
    for _ in range(20):
        memory = Counters.create(4)
        key = memory.tally(0).key("places")
        start = time.monotonic() + 0.02
        children: list[int] = []
        for number in range(4):
            pid = os.fork()
            if pid == 0:
                mine = memory.tally(number)
                while time.monotonic() < start:
                    pass
                got = sum(mine.take(key, 1, 5) for _ in range(10))
                os._exit(got)
            children.append(pid)
        got = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        assert sum(got) == memory.tally(0).total(key) <= 5


def test_a_process_that_is_killed_in_the_middle_blocks_nobody():
    memory = Counters.create(2)
    key = memory.tally(0).key("places")
    pid = os.fork()
    if pid == 0:
        mine = memory.tally(1)
        while True:
            mine.add(key, 1)
            mine.add(mine.key("other"), 1)
            mine.add(mine.key("other"), -1)
    mine = memory.tally(0)
    while not mine.others(key):
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert mine.others(key) > 0
    memory.tally(1).release()
    assert mine.take(key, 1, 1)


# What counts with it


def test_connections_are_limited_over_all_workers_and_refused_ones_do_not_count():
    limits = [Limits(Clock(), one) for one in shared()]
    for turn in range(3):
        assert limits[turn % 2].enter("public", "192.0.2.1", most=5, most_of_host=3) is None
    for one in limits:
        refusal = one.enter("public", "192.0.2.1", most=5, most_of_host=3)
        assert refusal is replies.TOO_MANY_FROM_HOST
    assert limits[0].connections("public") == 3
    assert limits[1].enter("public", "192.0.2.2", most=5, most_of_host=3) is None
    assert limits[0].enter("public", "192.0.2.3", most=5, most_of_host=3) is None
    assert limits[1].enter("public", "192.0.2.4", most=5, most_of_host=3) is replies.TOO_MANY_CONNECTIONS
    assert limits[1].enter("private", "192.0.2.4", most=5, most_of_host=3) is None
    limits[0].leave("public", "192.0.2.1")
    assert limits[1].enter("public", "192.0.2.1", most=5, most_of_host=3) is None


def test_recipients_per_hour_are_limited_over_all_workers():
    clock = Clock()
    limits = [Limits(clock, one) for one in shared(clock=clock)]
    assert [limits[n % 2].take_recipient("192.0.2.1", 3) for n in range(5)] == [True] * 3 + [False] * 2
    assert limits[0].take_recipient("192.0.2.2", 3)
    clock.now += 3601
    assert limits[0].take_recipient("192.0.2.1", 3)


def test_recipients_per_period_are_limited_over_all_workers():
    clock = Clock(1_600_000_000.0)
    one, two = (Rates(tally) for tally in shared(clock=clock))

    def take(rates: Rates, recipients: int) -> float:
        return rates.take("a.example", recipients, count=10, period=16, now=clock.now)

    assert take(one, 6) == take(two, 4) == 0
    assert take(two, 1) == take(one, 1) == clock.now + 17
    clock.now += 17
    assert take(two, 100) == 0, "more than the limit goes when nothing else does"
    assert take(one, 1) == clock.now + 17


def test_workers_share_a_destinations_connections_and_nobody_starves():
    clock = Clock(1_000_000.0)
    one, two = (Shares(tally) for tally in shared(clock=clock))
    assert [one.open("a.example", 4, clock.now) for _ in range(5)] == [True] * 4 + [False]
    assert not one.too_many("a.example", 4, clock.now), "nobody else wants any"
    assert not two.open("a.example", 4, clock.now)
    assert one.too_many("a.example", 4, clock.now)
    one.close("a.example")
    assert not one.open("a.example", 4, clock.now), "it is the other's turn"
    assert two.open("a.example", 4, clock.now)
    assert not two.open("a.example", 4, clock.now)
    one.close("a.example")
    assert not one.too_many("a.example", 4, clock.now)
    assert two.open("a.example", 4, clock.now)
    assert not two.open("a.example", 4, clock.now)


def test_one_connection_is_had_in_turns():
    clock = Clock(1_000_000.0)
    workers = [Shares(tally) for tally in shared(clock=clock)]
    had: set[int] = set()
    holder: int | None = None
    for _ in range(100):
        clock.now += 0.25
        if holder is not None and workers[holder].too_many("a.example", 1, clock.now):
            workers[holder].close("a.example")
            holder = None
        for number, one in enumerate(workers):
            if number != holder and one.open("a.example", 1, clock.now):
                assert holder is None, "never two at a time"
                holder = number
                had.add(number)
    assert had == {0, 1}


def test_a_wish_that_is_not_renewed_is_forgotten():
    clock = Clock(1_000_000.0)
    one, two = (Shares(tally) for tally in shared(clock=clock))
    assert all(one.open("a.example", 2, clock.now) for _ in range(2))
    assert not two.open("a.example", 2, clock.now)
    clock.now += 4
    assert not one.too_many("a.example", 2, clock.now)
