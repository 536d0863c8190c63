"""Dead and slow destinations delay no other, retries do not come back together, and a real Postfix sees the limits."""

import asyncio
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from letterlock_api.snapshot import RetrySchedule
from letterlock_gateway.deliver.retry import JITTER
from letterlock_gateway.deliver.terms import Timeouts
from letterlock_gateway.spool.tracking import Query, find
from tests.harness.deliveries import LETTER, Delivering, delivering, route, until
from tests.harness.faulty_smtp import FaultySMTP
from tests.harness.mounts import destination
from tests.harness.ports import free_port
from tests.harness.postfix import Postfix

# More than one connection per message that waits, were that how it is done.
MANY: Final = 1000
GOOD: Final = 200


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def send_many(made: Delivering, count: int, *domains: str, body: bytes = LETTER) -> None:
    """So many messages for each domain, in turn, stored in groups as reception does."""
    for start in range(0, count, 100):
        batch = range(start, min(start + 100, count))
        await asyncio.gather(
            *(made.send(f"someone@{domain}", body=body) for _ in batch for domain in domains)
        )


async def test_thousands_for_a_dead_and_a_tarpit_domain_leave_the_others_as_they_were(tmp_path: Path) -> None:
    # The tarpit keeps everybody for ten minutes: whatever is delivered meanwhile has not waited for it.
    patient = Timeouts(greeting=600)
    async with (
        FaultySMTP(fault="no greeting") as tarpit,
        FaultySMTP() as good,
        delivering(tmp_path, timeouts=patient) as made,
    ):
        made.apply(
            destination("tarpit.example", resource="tarpit", routes=[route(tarpit.port)]),
            destination("dead.example", resource="dead", tls_mode="No", routes=[route(free_port())]),
            destination("good.example", resource="good", tls_mode="No", routes=[route(good.port)]),
        )
        await send_many(made, MANY, "tarpit.example", "dead.example")
        await until(lambda: len(tarpit.sessions) > 20, "connections to the tarpit", seconds=60)
        await send_many(made, GOOD, "good.example")
        await until(lambda: len(good.delivered) == GOOD, "the good domain's mail", seconds=120)
        await until(lambda: made.logged("Delayed: "), "the dead domain's deferrals", seconds=60)
        # All of the tarpit's mail is still there, and it has not taken every connection that there may be.
        assert not tarpit.said(b"MAIL")
        assert made.spool.queue_length() >= MANY
        assert len(tarpit.sessions) < 500
        tarpit.hang_up()


async def test_what_failed_together_does_not_come_back_together(tmp_path: Path) -> None:
    async with delivering(tmp_path) as made:
        made.settings = made.settings.model_copy(update={"retry": RetrySchedule(initial=1000, max=1000)})
        made.apply(destination("dead.example", tls_mode="No", routes=[route(free_port())]))
        await send_many(made, 200, "dead.example")
        await until(
            lambda: sum("Delayed" in one["message"] for one in made.lines) == 200, "200 deferrals", seconds=60
        )
        waiting = await asyncio.to_thread(find, tmp_path, Query(waiting=True, limit=1000))
        waits = [
            (moment(one["recipients"][0]["nextAttempt"]) - moment(one["receivedAt"])).total_seconds()
            for one in waiting
        ]
        assert len(waits) == 200
        # Times are told in seconds.
        assert len(set(waits)) > 60
        assert min(waits) >= 1000 * (1 - JITTER) - 1
        # Spread over the whole of it: a tenth at least on each side of the middle.
        assert sum(one < 990 for one in waits) > 20
        assert sum(one > 1010 for one in waits) > 20


@pytest.fixture(scope="module")
def receiver() -> Iterator[Postfix]:
    """One that lets nobody have more than two connections, and says so in its log."""
    limits = {"smtpd_client_connection_count_limit": "2", "smtpd_client_event_limit_exceptions": ""}
    with Postfix.receiving(domains=("static:all",), settings=limits) as running:
        yield running


async def deliver(made: Delivering, receiver: Postfix, count: int, **limits: Any) -> str:
    """Send so many messages to Postfix under these limits; gives what it logged."""
    before = len(receiver.log)
    made.apply(destination("limits.example", tls_mode="No", routes=[route(receiver.port)], **limits))
    await send_many(made, count, "limits.example")
    await until(lambda: made.spool.queue_length() == 0, "an empty queue", seconds=120)
    await until(lambda: not made.delivery.sessions, "the connections to end", seconds=30)
    await until(
        lambda: (
            receiver.log.count(": connect from") == receiver.log.count(": disconnect from")
            and receiver.log[before:].count(": client=") >= count
        ),
        "Postfix to have seen and said all of it",
    )
    return receiver.log[before:]


async def test_a_host_that_takes_no_more_connections_gets_all_mail_over_those_that_it_has(
    tmp_path: Path, receiver: Postfix
) -> None:
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        log = await deliver(made, receiver, 200)
        assert "too many connections" in log or "Connection concurrency limit exceeded" in log
        assert not made.logged("Delayed:")


async def test_postfix_sees_as_many_messages_on_a_connection_as_allowed(
    tmp_path: Path, receiver: Postfix
) -> None:
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        log = await deliver(made, receiver, 7, connections=1, messages_per_connection=3)
        found: list[str] = re.findall(r"disconnect from \S+ .*\bmail=(\d+)", log)
        assert [int(one) for one in found][:2] == [3, 3]
        assert log.count(": client=") == 7


async def test_postfix_sees_no_more_connections_at_a_time_than_allowed(
    tmp_path: Path, receiver: Postfix
) -> None:
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        log = await deliver(made, receiver, 60, connections=2, messages_per_connection=5)
        assert log.count(": client=") == 60
        assert "Connection concurrency limit exceeded" not in log
        assert "too many connections" not in log.lower()
        # That Postfix would have said so shows without the limit.
        mark = len(receiver.log)
        made.apply(destination("limits.example", tls_mode="No", routes=[route(receiver.port)]))
        await send_many(made, 60, "limits.example")
        await until(
            lambda: "concurrency limit exceeded" in receiver.log[mark:], "Postfix to mind", seconds=60
        )


async def test_postfix_gets_no_more_recipients_in_a_period_than_allowed(
    tmp_path: Path, receiver: Postfix
) -> None:
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        limits: dict[str, Any] = {"recipients_count": 5, "recipients_period": 3600.0, "connections": 1}
        made.apply(destination("limits.example", tls_mode="No", routes=[route(receiver.port)], **limits))
        await send_many(made, 12, "limits.example", body=b"Subject: five of twelve\r\n\r\nhello\r\n")
        await until(lambda: made.spool.queue_length() == 7, "five of twelve", seconds=60)
        await until(lambda: not made.delivery.sessions, "the connections to end", seconds=30)
        arrived = [one for one in receiver.messages() if b"five of twelve" in one]
        assert len(arrived) <= 5
        assert made.spool.queue_length() == 7
        # They wait for the period and nothing else.
        assert not made.logged("Delayed: ")
