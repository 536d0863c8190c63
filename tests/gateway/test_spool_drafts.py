"""Bodies that come in pieces: what is taken is there, and what is not taken leaves nothing behind."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from letterlock_gateway.spool import Draft, Hop, NewMessage, NewRecipient, Spool, SpoolFailed, Traits
from letterlock_gateway.spool.bodies import IN_DATABASE
from letterlock_gateway.spool.tracking import Query, find

EMPTY = NewMessage("a@b.example", (NewRecipient("to@c.example"),), b"", 1)
PIECE = bytes(range(256)) * 40


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    made = await Spool.open(tmp_path / "2", lambda: 1000.0)
    yield made
    await made.close()


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "2" / "bodies").iterdir())


class Held:
    def __init__(self) -> None:
        self.now = self.most = 0

    def __call__(self, octets: int) -> None:
        self.now += octets
        self.most = max(self.most, self.now)


async def fill(draft: Draft, pieces: int) -> bytes:
    """Write as the reception does: no more while it is full."""
    room = asyncio.Event()
    draft.room = room.set
    for _ in range(pieces):
        if draft.full:
            room.clear()
            async with asyncio.timeout(20):
                await room.wait()
        draft.write(PIECE)
    return PIECE * pieces


@pytest.mark.parametrize("pieces", [0, 1, 6, 7, 500], ids=lambda n: f"{n * len(PIECE)} octets")
async def test_a_taken_draft_is_a_message(spool: Spool, tmp_path: Path, pieces: int):
    held = Held()
    draft = spool.draft(held)
    body = await fill(draft, pieces)
    stored = await spool.take(EMPTY, draft=draft)
    assert stored.mid == draft.mid
    assert held.now == 0
    assert held.most <= 9 * IN_DATABASE
    [queued] = await spool.due(2000.0, 10)
    assert (queued.mid, queued.size) == (draft.mid, len(body))
    assert await spool.body(draft.mid) == body
    assert files(tmp_path) == ([str(draft.mid)] if len(body) > IN_DATABASE else [])
    await spool.delivered([queued.rid], hop=Hop("h"), reply="250")
    await spool.close()
    assert files(tmp_path) == []


async def test_a_taken_draft_outlives_its_worker(spool: Spool, tmp_path: Path):
    draft = spool.draft()
    body = await fill(draft, 50)
    await spool.take(EMPTY, draft=draft)
    await spool.close()
    again = await Spool.open(tmp_path / "2", lambda: 1000.0)
    [queued] = await again.due(2000.0, 10)
    assert await again.body(queued.mid) == body
    await again.close()


@pytest.mark.parametrize("pieces", [1, 7, 100])
async def test_a_discarded_draft_leaves_nothing(spool: Spool, tmp_path: Path, pieces: int):
    held = Held()
    before = psutil.Process().num_fds()
    drafts = [spool.draft(held) for _ in range(5)]
    for draft in drafts:
        await fill(draft, pieces)
        draft.discard()
        draft.discard()
        draft.write(PIECE)
    await spool.close()
    assert files(tmp_path) == []
    async with asyncio.timeout(10):
        while held.now or files(tmp_path):
            await asyncio.sleep(0.01)
    assert psutil.Process().num_fds() < before


@pytest.mark.parametrize("pieces", [1, 8, 30], ids=lambda n: f"{n * len(PIECE)} octets behind the header")
async def test_it_is_found_by_its_message_id_wherever_it_lies(spool: Spool, tmp_path: Path, pieces: int):
    draft = spool.draft()
    draft.write(b"Subject: x\r\nMessage-ID: <here@b.example>\r\n\r\n")
    await fill(draft, pieces)
    stored = await spool.take(EMPTY, draft=draft)
    assert [one["mid"] for one in find(tmp_path, Query(message_id="<here@b.example>"))] == [stored.mid]


async def test_a_draft_that_a_crash_left_is_removed_at_the_next_start(spool: Spool, tmp_path: Path):
    draft = spool.draft()
    await fill(draft, 100)
    await spool.close()  # nobody takes it, nobody discards it
    assert files(tmp_path) == [str(draft.mid)]
    await (await Spool.open(tmp_path / "2", lambda: 1000.0)).close()
    assert files(tmp_path) == []
    draft.discard()


@pytest.mark.parametrize("when", ["at the first write", "at the sync"])
async def test_a_full_disk_fails_the_message_and_leaves_nothing(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
):
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    held = Held()
    draft = spool.draft(held)
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev" if when == "at the first write" else "fsync", fail)
        await fill(draft, 100)
        with pytest.raises(SpoolFailed, match="No space left"):
            await spool.take(replace(EMPTY), draft=draft)
    assert held.now == 0
    assert spool.queue_length() == 0
    other = spool.draft()
    await fill(other, 100)
    await spool.take(EMPTY, draft=other)
    await spool.close()
    assert files(tmp_path) == [str(other.mid)]


@pytest.mark.parametrize("plain", [True, False])
async def test_what_was_found_out_while_it_came_in_is_known_when_it_goes_out(
    spool: Spool, tmp_path: Path, plain: bool
):
    draft = spool.draft()
    header = b"Received: by here\r\nSubject: x\r\n\r\n"
    draft.write(header)
    body = header + await fill(draft, 20)
    draft.traits = Traits(ascii=False, plain=plain)
    stored = await spool.take(EMPTY, draft=draft)
    content = await spool.content(stored.mid)
    assert (content.size, content.ascii, content.plain) == (len(body), False, plain)
    assert content.header == header[:-4]
    assert b"".join([piece async for piece in content.pieces()]) == body
    await spool.close()
    again = await Spool.open(tmp_path / "2", lambda: 1000.0)
    try:  # what was only in memory is looked for in the file, and nothing is taken for granted
        content = await again.content(stored.mid)
        assert (content.size, content.ascii, content.plain) == (len(body), body.isascii(), False)
        assert content.header == header[:-4]
    finally:
        await again.close()
