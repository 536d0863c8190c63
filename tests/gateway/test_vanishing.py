"""Clients vanish in every state, hundreds in each: memory, sockets, tasks and files are as they were before.

`make vanish` takes 10,000 of them and tells what it measured.
"""

# pyright: reportPrivateUsage=false

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import uvloop

from letterlock_gateway.receive.connection import Connection
from letterlock_gateway.receive.session import Session
from letterlock_gateway.receive.storing import Intake
from letterlock_gateway.spool.drafts import Draft
from tests.gateway.receiving import Receiving, listener, receiving, running_set, trusting
from tests.gateway.test_reception_hostile import as_before, held, letter, until
from tests.harness.certificates import Authority
from tests.harness.vanishing import HOWS, STATES, How, State, vanish

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("mx.here.example")
ALL = int(os.environ.get("LETTERLOCK_VANISH", "0"))
# In each state and each way to go: in clear, and under TLS, whose handshakes take their time.
IN_CLEAR = max(ALL // (len(STATES) * len(HOWS)) + 1, 200)
UNDER_TLS = max(IN_CLEAR // 10, 20)
AT_A_TIME = 40


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Receiving]:
    async with receiving(tmp_path) as made:
        yield made


def alive() -> dict[str, int]:
    """Objects of ours that live."""
    kinds = (Connection, Session, Intake, Draft)
    found = [type(one) for one in gc.get_objects() if isinstance(one, kinds)]
    return {kind.__name__: found.count(kind) for kind in kinds}


async def crowd(world: Receiving, state: State, how: How, many: int, *, tls: bool) -> None:
    """So many clients that vanish; returns when the reception has let go of all of them."""
    context = trusting(AUTHORITY.pem) if tls else None
    for begun in range(0, many, AT_A_TIME):
        gone = asyncio.Event()
        clients = [
            asyncio.create_task(vanish(world.port, state, how, gone, context))
            for _ in range(min(AT_A_TIME, many - begun))
        ]
        if how == "silence":
            await until(
                lambda clients=clients: len(world.reception._connections) == len(clients), "all are there"
            )
            for _ in range(
                10
            ):  # they are where they want to be, or on the way: their time is up wherever it is
                await asyncio.sleep(0)
            while world.reception._connections:
                for one in list(world.reception._connections):
                    one.time_out()
                await asyncio.sleep(0.001)
            gone.set()
        await asyncio.gather(*clients, return_exceptions=how == "silence")
        await until(lambda: not world.reception._connections, "the reception has let go")


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "under TLS"])
@pytest.mark.parametrize("how", HOWS)
async def test_crowds_that_vanish_leave_nothing(world: Receiving, how: How, tls: bool):
    policy: dict[str, object] = {"tls_mode": "Preferred", "max_connections_per_host": 1000}
    one = listener(world.port, certificates=[PAIR], policy=policy)
    [state] = await world.reception.apply(running_set(one, certificates=[PAIR], ca=AUTHORITY.pem))
    assert state.listening, state.problem
    states = {name: each for name, each in STATES.items() if not (tls and each.in_clear)}
    await letter(world)
    for each in states.values():  # what is made once is made now
        await crowd(world, each, how, 2, tls=tls)
    await until(lambda: not world.reception._tasks, "what was being stored is stored")
    world.lines.clear()
    before, objects = held(world), alive()
    rss = psutil.Process().memory_info().rss
    many = UNDER_TLS if tls else IN_CLEAR
    for each in states.values():
        await crowd(world, each, how, many, tls=tls)
        del world.lines[:-1]
    await until(lambda: not world.reception._tasks, "what was being stored is stored")
    # A message that was whole is stored or not, as the moment will have it; whichever it is, nothing else is left.
    before["queued"] = world.spool.queue_length()
    await as_before(world, before)
    assert alive() == objects
    grown = psutil.Process().memory_info().rss - rss
    print(f"{how}, tls {tls}: {many * len(states)} clients, {grown >> 10} KiB more")
    await letter(world)


async def test_a_crowd_that_vanishes_after_the_dot_leaves_its_messages(world: Receiving):
    """Whoever does not wait for the 250 may send again; but what was whole is taken, and once."""
    [state] = await world.reception.apply(running_set(listener(world.port)))
    assert state.listening, state.problem
    await crowd(world, STATES["after the dot"], "end", 100, tls=False)
    await until(lambda: not world.reception._tasks, "what was being stored is stored")
    assert world.spool.queue_length() == 100


@pytest.mark.parametrize("how", ["reset", "end"])
@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "under TLS"])
def test_a_connection_is_gone_at_its_end_and_not_when_circles_are_looked_for(
    tmp_path: Path, how: How, tls: bool
):
    """On the loop that workers run on. With circles, 10,000 clients under TLS left 130 MiB behind for a while."""
    counted: list[int] = []

    async def count() -> None:
        async with receiving(tmp_path) as world:
            policy: dict[str, object] = {"tls_mode": "Preferred"}
            one = listener(world.port, certificates=[PAIR], policy=policy)
            await world.reception.apply(running_set(one, certificates=[PAIR], ca=AUTHORITY.pem))
            gc.collect()
            gc.disable()
            try:
                for state in ("after EHLO", "after RCPT", "within a long text", "within a refused text"):
                    await crowd(world, STATES[state], how, 10, tls=tls)
                async with asyncio.timeout(30):  # a write to its file may be under way
                    while any(alive().values()):
                        await asyncio.sleep(0.01)
            finally:
                counted.append(sum(alive().values()))
                gc.enable()

    uvloop.run(count())
    assert counted == [0]
