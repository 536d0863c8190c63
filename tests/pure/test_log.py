"""Lines of the mail log."""

import asyncio
import json
import os
import select
import threading
from typing import Literal

import pytest

from letterlock_gateway.report.log import Log


def lines_of(log_format: str, **bound: object) -> tuple[Log, list[str]]:
    lines: list[str] = []
    log = Log(
        "text" if log_format == "text" else "json",
        bound=bound,
        clock=lambda: 1_750_000_000.25,
        write=lambda line: lines.append(line.decode()),
    )
    return log, lines


def test_json_lines_carry_time_level_message_and_ids() -> None:
    log, lines = lines_of("json", member="m-0")
    log.bind(worker=1).info("ICID 3 ACCEPT", icid=3)
    assert json.loads(lines[0]) == {
        "time": "2025-06-15T15:06:40.250Z",
        "level": "info",
        "message": "ICID 3 ACCEPT",
        "member": "m-0",
        "worker": 1,
        "icid": 3,
    }


def test_text_lines_are_for_people() -> None:
    log, lines = lines_of("text", member="m-0")
    log.warning("ICID 3 TLS failed: no shared cipher", icid=3)
    assert lines == ["2025-06-15T15:06:40.250Z Warning: ICID 3 TLS failed: no shared cipher\n"]


def test_what_a_peer_sends_makes_no_line_of_its_own() -> None:
    for log_format in ("json", "text"):
        log, lines = lines_of(log_format)
        log.error("MID 1 From: <a\r\n2026 Info: forged>\udcff")
        assert lines[0].count("\n") == 1
        assert "\r" not in lines[0]


@pytest.mark.parametrize("sign", ["\x1b[2J", "\x9b1A", "\u202e", "\u2028", "\x85", "\x7f"], ids=repr)
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_a_peer_sends_does_nothing_to_the_screen_of_who_reads_it(
    log_format: Literal["json", "text"], sign: str
) -> None:
    log, lines = lines_of(log_format)
    said = f"MID 1 From: <ö{sign}@example.com>"
    log.error(said)
    [line] = lines[0].splitlines()
    assert line.replace("\x7f", "").isprintable()
    if log_format == "json":
        assert json.loads(line)["message"] == said


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    writes: list[bytes] = []

    def write(_: int, text: bytes) -> int:
        writes.append(bytes(text))
        return len(text)

    monkeypatch.setattr(os, "write", write)
    return writes


async def test_what_one_turn_of_the_loop_logs_goes_out_together_and_in_order(written: list[bytes]) -> None:
    mail_log = Log("text")
    for number in range(5):
        mail_log.info(f"line {number}")
    assert written == []
    await asyncio.sleep(0)
    assert len(written) == 1
    assert [line.split()[-1] for line in written[0].splitlines()] == [b"0", b"1", b"2", b"3", b"4"]


async def test_no_write_is_longer_than_a_pipe_takes_as_a_whole(written: list[bytes]) -> None:
    mail_log = Log("text")
    for number in range(1000):
        mail_log.info(f"line {number}")
    await asyncio.sleep(0)
    assert all(len(write) <= select.PIPE_BUF and write.endswith(b"\n") for write in written)
    assert len(b"".join(written).splitlines()) == 1000


async def test_a_thread_without_a_loop_writes_at_once(written: list[bytes]) -> None:
    thread = threading.Thread(target=Log("text").error, args=("the disk is full",))
    thread.start()
    thread.join()
    assert len(written) == 1
