"""How the supervisor sends alerts: what cannot be stored waits, what was told is remembered, bad files do no harm."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from letterlock_api.snapshot import (
    ServedCertificate,
    SnapshotAlertRecipient,
    SnapshotAlerts,
    SnapshotDelivery,
)
from letterlock_gateway.manage import in_use, told_file
from letterlock_gateway.manage.alerting import Alerting, NotStored
from letterlock_gateway.mount import MountedSet, assemble
from letterlock_gateway.report.alerts import Told
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.metrics import Metrics
from letterlock_gateway.report.tls_failures import TLSFailure
from letterlock_gateway.running import RunningSet
from letterlock_gateway.spool import NewMessage
from tests.harness import mounts
from tests.harness.certificates import Authority
from tests.harness.deliveries import until
from tests.harness.mounts import Files


def mounted(files: Files, *, alert: bool = True, **changes: Any) -> MountedSet:
    ops = SnapshotAlertRecipient(address="ops@watch.example", severities=["Warning"], types=["System"])
    taken = mounts.snapshot(
        files,
        delivery=SnapshotDelivery(tls_alert=alert),
        alerts=SnapshotAlerts(recipients=changes.pop("recipients", [ops])),
        **changes,
    )
    return assemble(taken.encode(), files.content)


class Sending:
    """Alerting with a queue that is a list, and that can be closed."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_000_000.0
        self.messages: list[NewMessage] = []
        self.lines: list[str] = []
        self.closed = False
        log = Log("json", write=lambda line: self.lines.append(json.loads(line)["message"]))
        self.alerting = Alerting(directory, log, self.store, lambda: (), Metrics(), lambda: self.now)

    async def store(self, message: NewMessage) -> int:
        if self.closed:
            raise NotStored("no worker runs")
        self.messages.append(message)
        return len(self.messages)

    def use(self, one: MountedSet) -> None:
        self.alerting.use(RunningSet.build(one, "default-0"), one)

    def fail(self, domain: str = "partner.example") -> None:
        failure = TLSFailure(domain, "p", "Required", "TLSRefused", "no", "mx", self.now)
        self.alerting.failed([failure])

    def subjects(self) -> list[str]:
        return [line.split(": ", 1)[1] for line in self.lines if " Alert " in line]


async def test_what_cannot_be_stored_is_stored_later_and_told_once(tmp_path: Path) -> None:
    made = Sending(tmp_path)
    made.closed = True
    made.use(mounted(Files()))
    running = asyncio.create_task(made.alerting.run())
    made.fail()
    await until(lambda: any("cannot be stored yet" in line for line in made.lines), "a try")
    made.closed = False
    made.fail()
    await until(lambda: made.messages, "the alert")
    made.fail()
    made.fail("other.example")
    await until(lambda: len(made.messages) == 2, "the other alert")
    running.cancel()
    assert [subject.split()[3] for subject in made.subjects()] == ["partner.example", "other.example"]
    again = Sending(tmp_path)
    again.use(mounted(Files()))
    again.fail()
    again.fail("third.example")
    running = asyncio.create_task(again.alerting.run())
    await until(lambda: again.messages, "the third")
    running.cancel()
    assert [subject.split()[3] for subject in again.subjects()] == ["third.example"]
    assert (tmp_path / told_file.NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"domains": []}', '{"domains": {"a": "x"}}', "\x00"])
def test_a_file_that_cannot_be_read_is_said_and_harms_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / told_file.NAME).write_text(text)
    made = Sending(tmp_path)
    assert "cannot be read" in made.lines[0]
    records = told_file.Records(Told({"a.example": 1.5}, (1.5,)), {"key": (5, 9.5)})
    told_file.write(tmp_path, records)
    assert told_file.read(tmp_path) == records


def test_an_alert_that_nobody_takes_is_said_at_once(tmp_path: Path) -> None:
    made = Sending(tmp_path)
    made.use(mounted(Files(), recipients=[]))
    assert "nobody in alerts.recipients" in made.lines[0]


def test_the_pair_of_another_member_that_is_none_is_passed_over(authority: Authority) -> None:
    files = Files()
    own = files.certificate(authority.issue("mx.example")).file
    files.content["tls-broken.pem"] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    served = ServedCertificate(
        name="mx", files={"default-0": own or "", "default-1": "tls-broken.pem", "default-2": "tls-gone.pem"}
    )
    taken = mounts.snapshot(files, listeners=[mounts.listener(2525, certificates=[served])])
    [one] = in_use.watched(MountedSet(taken, files.content, "", b""))
    assert (one.kind, one.name) == ("Certificate", "mx")


@pytest.fixture
def authority() -> Authority:
    return Authority()
