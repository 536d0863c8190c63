"""Fair turns: whoever sends without end gets one piece worked off, and then everybody else has a turn."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from letterlock_gateway.receive import turns
from letterlock_gateway.receive.allowances import A_SECOND, AT_ONCE, COMMAND, Allowance
from letterlock_gateway.receive.dialogue import COMMANDS_AT_ONCE, TEXT_AT_ONCE
from letterlock_gateway.receive.orders import Phase
from letterlock_gateway.receive.session import Session
from letterlock_gateway.receive.turns import Turns
from tests.gateway.receiving import Client, Receiving, listener, receiving, running_set
from tests.gateway.test_session import ask, codes, said, session, to_data
from tests.harness import attacks

FLOODERS = 8
_TO_DATA = ["EHLO x", "MAIL FROM:<>", "RCPT TO:<u@here.example>", "DATA"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Receiving]:
    async with receiving(tmp_path) as made:
        yield made


def test_an_honest_session_never_waits():
    allowance = Allowance()
    session_with_a_small_message = [COMMAND + 40] * 9 + [2000]
    for second in range(60):
        assert not any(allowance.spend(second / 10, work) for work in session_with_a_small_message)


def test_whoever_sends_on_and_on_waits_however_small_the_pieces():
    allowance = Allowance()
    served = itertools.takewhile(lambda _: not allowance.spend(1.0, 100), range(10_000))
    assert len(list(served)) == AT_ONCE // 100
    assert allowance.spend(1.0, 1)
    assert not allowance.spend(1.0 + AT_ONCE / A_SECOND, AT_ONCE), "time gives it back"


def test_a_group_of_commands_is_answered_in_portions():
    one = session()
    assert codes(ask(one, "EHLO x")) == [250]
    one.work = 0
    one.feed(b"NOOP\r\n" * (2 * COMMANDS_AT_ONCE + 1))
    portions: list[int] = []
    while one.out:
        portions.append(len(one.out))
        one.out.clear()
        if one.more:
            one.go_on()
    assert portions == [COMMANDS_AT_ONCE, COMMANDS_AT_ONCE, 1]
    assert one.work == (2 * COMMANDS_AT_ONCE + 1) * (COMMAND + len("NOOP\r\n"))


@pytest.mark.parametrize("end", range(-4, 5))
def test_a_text_is_worked_off_in_portions_wherever_its_end_falls(end: int):
    one = session()
    to_data(one)
    text = b"x" * (2 * TEXT_AT_ONCE + end - len(b"\r\n.\r\n")) + b"\r\n"
    one.feed(text + b".\r\nRSET\r\n")
    whole = bytearray()
    while one.phase is Phase.DATA:
        assert sum(map(len, one.text)) <= TEXT_AT_ONCE
        whole += b"".join(one.text)
        one.text.clear()
        assert one.more
        one.go_on()
    assert one.phase is Phase.WAITING
    assert not one.more
    whole += b"".join(one.text)
    assert whole == text
    assert said(one) == ""


async def test_between_two_turns_everybody_else_is_served():
    line, order = Turns(), list[str]()
    loop = asyncio.get_running_loop()

    def flooder(name: str, left: int) -> None:
        order.append(name)
        if left:
            line.wait(lambda: flooder(name, left - 1))

    def honest(left: int) -> None:
        order.append("honest")
        if left:
            loop.call_soon(honest, left - 1)

    for name in "abc":
        line.wait(lambda name=name: flooder(name, 9))
    honest(40)
    while order.count("honest") < 41:
        await asyncio.sleep(0)
    assert len(order) == 41 + 30
    between = [len(list(group)) for who, group in itertools.groupby(order, "honest".__eq__) if not who]
    assert max(between) == 1
    assert [who for who in order if who != "honest"] == list("abc") * 10


async def test_what_nobody_wants_is_paid_for_by_all_who_send_it(monkeypatch: pytest.MonkeyPatch):
    line, order = Turns(), list[int]()
    pauses: list[float] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later

    def call_later(delay: float, *rest: object) -> asyncio.TimerHandle:
        pauses.append(delay)
        return later(0, *rest)  # pyright: ignore[reportArgumentType, reportCallIssue]

    monkeypatch.setattr(loop, "call_later", call_later)
    for number in range(5):
        line.wait_unwanted(lambda number=number: order.append(number), turns.UNWANTED_A_SECOND // 4)
    while len(order) < 5:
        await asyncio.sleep(0)
    assert order == [0, 1, 2, 3, 4]
    assert pauses == [0.25] * 5


@pytest.mark.parametrize("lines", [_TO_DATA, _TO_DATA[:1]], ids=["texts", "commands"])
async def test_floods_get_one_portion_a_turn_of_the_loop(
    world: Receiving, monkeypatch: pytest.MonkeyPatch, lines: list[str]
):
    """Counted, not timed: portions of all flooders together, by the turns of the event loop that they took."""
    loop = asyncio.get_running_loop()
    turn = 0
    portions: list[int] = []
    flooding = False

    def tick() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(tick)

    advance = Session._advance  # pyright: ignore[reportPrivateUsage]

    def counted(self: Session) -> None:
        before = self.work
        advance(self)
        if flooding and self.work - before > AT_ONCE // 2:
            portions.append(turn)
            assert self.work - before <= TEXT_AT_ONCE + 4096 * COMMANDS_AT_ONCE

    monkeypatch.setattr(Session, "_advance", counted)
    policy: dict[str, object] = {"max_connections_per_host": 1000, "max_message_size": 1 << 30}
    [state] = await world.reception.apply(running_set(listener(world.port, policy=policy)))
    assert state.listening, state.problem
    flood = (
        b"a line of text\r\n" * 4000 if lines is _TO_DATA else b"MAIL FROM:<a@b.example>\r\nRSET\r\n" * 2000
    )
    flooders = [
        asyncio.create_task(
            attacks.again_and_again(
                lambda port: attacks._until_closed(port, *lines, send=lambda: flood),  # pyright: ignore[reportPrivateUsage]
                world.port,
            )
        )
        for _ in range(FLOODERS)
    ]
    tick()
    async with asyncio.timeout(60):
        while world.log.count("New SMTP") < FLOODERS:
            await asyncio.sleep(0)
        flooding = True
        for _ in range(5):
            client = await Client.connect(world.port)
            assert (await client.reply()).startswith("220")
            assert (await client.send(b"Subject: x\r\n\r\nx\r\n")).startswith("250")
            await client.close()
        while len(portions) < 20 * FLOODERS:
            await asyncio.sleep(0)
    for one in flooders:
        one.cancel()
    await asyncio.wait(flooders)
    # Each may come out of the blue once, when its allowance is whole or nothing had come when it had its turn.
    busiest = max(len(list(group)) for _, group in itertools.groupby(portions))
    assert busiest <= FLOODERS
    assert len(portions) <= len(set(portions)) * 2 + FLOODERS
