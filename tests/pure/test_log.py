"""Lines of the mail log."""

import json

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
