"""Metrics of a member with real mail (and TLS sessions as RFC 8460 needs them), checked by the real promtool."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from letterlock_gateway.manage.session_days import DIRECTORY
from letterlock_gateway.report.metrics import FAMILIES
from tests.harness import promtool, waiting
from tests.harness.certificates import Authority
from tests.mail.test_alerts import PARTNER, Watched

type Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def watched(tmp_path: Path, authority: Authority) -> Iterator[Watched]:
    """A member that takes mail for a partner, whose certificate is for another name."""
    made = Watched(tmp_path, authority)
    made.alert = False
    expected = made.publish()
    try:
        with made.partner, made.member:
            made.member.wait_ready()
            made.member.wait_running(expected)
            yield made
    finally:
        made.partner.remove()
        made.watchers.remove()


def series(text: str) -> Series:
    found = re.findall(r"^(\w+)(?:{(.*)})? (\S+)$", text, re.MULTILINE)
    return {
        (name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))): float(value)
        for name, labels, value in found
    }


def total(text: str, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (one, has), value in series(text).items() if one == name and wanted <= has)


def test_what_mail_does_is_counted_once_each_and_outlives_the_worker(
    watched: Watched, tmp_path: Path
) -> None:
    member = watched.member
    watched.send(tmp_path, 2)
    tls = "letterlock_tls_connections_total"

    def counted() -> str | None:
        text = member.metrics()
        enough = (
            total(text, tls, direction="out", result="failed") >= 2
            and total(text, "letterlock_messages_accepted_total") == 2
            and total(text, "letterlock_messages_deferred_total", reason="NameMismatch") >= 2
        )
        return text if enough else None

    told = waiting.until(counted, what="both messages counted, and that they wait", seconds=60)
    assert promtool.metrics_problems(told) == ""
    assert {one for one, _ in series(told)} <= set(FAMILIES)
    assert total(told, "letterlock_connections_total", listener="public") == 2
    assert total(told, tls, direction="in", listener="public", result="encrypted") == 2
    assert total(told, "letterlock_messages_accepted_total") == 2
    assert total(told, "letterlock_messages_delivered_total") == 0
    failed = total(
        told,
        tls,
        direction="out",
        result="failed",
        reason="NameMismatch",
        result_type="certificate-host-mismatch",
    )
    assert failed == total(told, tls, direction="out")
    assert total(told, "letterlock_messages_deferred_total", reason="NameMismatch") >= 2
    assert total(told, "letterlock_queue_length") == 2
    assert total(told, "letterlock_queue_age_seconds") > 0
    assert total(told, "letterlock_member_ready") == 1
    assert total(told, "letterlock_spool_bytes") > 0
    assert total(told, "letterlock_spool_available_bytes") > 0
    ends = [
        value for (name, _), value in series(told).items() if name.startswith("letterlock_certificate_expiry")
    ]
    assert len(ends) == 1
    assert not [one for one in series(told) if PARTNER in str(one)], "no domain of a recipient is a label"

    member.kill_worker(member.worker_pids()[0])
    waiting.until(
        lambda: total(member.metrics(), "letterlock_worker_restarts_total") == 1, what="a restart", seconds=60
    )
    assert total(member.metrics(), "letterlock_messages_accepted_total") == 2

    watched.partner.use_certificate(watched.authority.issue(PARTNER))
    waiting.until(
        lambda: total(member.metrics(), "letterlock_messages_delivered_total", verified="yes") == 2,
        what="messages that are counted as delivered",
        seconds=90,
    )
    told = member.metrics()
    assert total(told, tls, direction="out", result="verified") >= 1
    assert total(told, "letterlock_queue_length") == 0
    assert total(told, "letterlock_queue_age_seconds") == 0

    failures = total(told, tls, direction="out", result="failed")
    member.stop()
    [file] = (member.spool / DIRECTORY).glob("????-??-??.json")
    assert file.stat().st_mode & 0o777 == 0o600
    rows = {(row[0], row[3]): row[4] for row in json.loads(file.read_text())["sessions"]}
    assert rows[PARTNER, "certificate-host-mismatch"] >= failures
    assert rows[PARTNER, ""] >= 1
