"""Alerts by mail (D10): a Postfix whose certificate does not fit, and another with the mailboxes of those who watch."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from letterlock_api.snapshot import (
    NextHop,
    RetrySchedule,
    SnapshotAlertRecipient,
    SnapshotAlerts,
    SnapshotDelivery,
)
from letterlock_gateway.manage import control, stored
from letterlock_gateway.spool import NewMessage, NewRecipient
from tests.harness import letters, mounts, ports, waiting
from tests.harness.certificates import Authority
from tests.harness.issued import Issued
from tests.harness.member import Member
from tests.harness.mounts import Files
from tests.harness.postfix import Postfix
from tests.harness.swaks import swaks

WATCHERS = "watch.example"
PARTNER = "partner.example"


def takes(address: str, *severities: Any) -> SnapshotAlertRecipient:
    return SnapshotAlertRecipient(
        address=address, severities=list(severities) or ["Critical", "Warning"], types=["System"]
    )


def pair(name: str, days: tuple[int, int]) -> bytes:
    """A self-signed certificate with its key, valid between these days from now."""
    made = Issued.make(name, days=days, names=(name,), now=datetime.now(UTC))
    return made.key_pem + made.pem


class Watched:
    """A member whose mail for the partner fails, and the mailbox of those who are told."""

    def __init__(self, directory: Path, authority: Authority, *, name: str = "default-0") -> None:
        self.authority = authority
        self.partner = Postfix.receiving(certificate=authority.issue("other.example"), domains=(PARTNER,))
        self.watchers = Postfix.receiving(
            certificate=authority.issue(WATCHERS), domains=(WATCHERS,), tls="encrypt", name="mx.watch.example"
        )
        self.member = Member(directory, workers=2, name=name)
        self.port = ports.free_port()
        self.recipients = [takes(f"ops@{WATCHERS}"), takes(f"boss@{WATCHERS}", "Critical")]
        self.listener_pem = authority.issue("mx.letterlock.example")
        self.trusted = [authority.pem]
        self.alert = True

    def publish(self) -> str:
        files = Files()
        served = files.certificate(self.listener_pem)
        trust = {"partners": files.trust(*self.trusted)}
        verified: dict[str, Any] = {"tls_mode": "RequiredVerify", "min_version": "TLSv1.2"}

        def by(server: Postfix) -> list[NextHop]:
            return [NextHop(host="127.0.0.1", port=server.port)]

        taken = mounts.snapshot(
            files,
            listeners=[
                mounts.listener(
                    self.port, policies=[mounts.policy(tls_mode="Preferred")], certificates=[served]
                )
            ],
            destinations=[
                mounts.destination(PARTNER, resource="partner", routes=by(self.partner), **verified),
                mounts.destination(WATCHERS, resource="watchers", routes=by(self.watchers), **verified),
                mounts.destination(),
            ],
            delivery=SnapshotDelivery(tls_alert=self.alert, retry=RetrySchedule(initial=1.0, max=1.0)),
            alerts=SnapshotAlerts(sender="gateway@letterlock.example", recipients=self.recipients),
            trust=trust,
        )
        return self.member.mount.publish(taken, files)

    def send(self, directory: Path, count: int = 1) -> None:
        """Hand in mail for the partner, over as many connections, so that both workers get some."""
        for _ in range(count):
            done = swaks(
                self.port,
                to=f"someone@{PARTNER}",
                data=letters.letter(to=f"someone@{PARTNER}"),
                directory=directory,
            )
            assert done.accepted, done.text

    def told(self) -> list[EmailMessage]:
        """What the watchers' mailbox holds."""
        return [message_from_bytes(one, policy=policy.default) for one in self.watchers.messages()]

    def wait_told(self, count: int) -> list[EmailMessage]:
        waiting.until(lambda: len(self.told()) >= count, seconds=60, what=f"{count} alerts in the mailbox")
        return self.told()

    def wait_closed(self) -> None:
        """Return once no connection is kept for the next message: one that was made well may be used again."""
        done = [
            line["dcid"] for line in self.member.log() if str(line.get("message")).startswith("Message done")
        ]
        waiting.until(
            lambda: all(self.member.logged(f"DCID {dcid} close") for dcid in done), what="closed connections"
        )

    def failed(self) -> int:
        """Attempts that failed in TLS, as the log has them."""
        return sum("TLS was required but" in str(line.get("message")) for line in self.member.log())

    def wait_failed(self, more: int) -> None:
        so_far = self.failed()
        waiting.until(
            lambda: self.failed() >= so_far + more, seconds=60, what=f"{more} more attempts that fail"
        )


@pytest.fixture
def watched(tmp_path: Path, authority: Authority) -> Iterator[Watched]:
    made = Watched(tmp_path, authority)
    expected = made.publish()
    try:
        with made.partner, made.watchers, made.member:
            made.member.wait_ready()
            made.member.wait_running(expected)
            yield made
    finally:
        made.partner.remove()
        made.watchers.remove()


def test_a_failure_of_required_tls_is_told_once_whichever_worker_meets_it_and_whatever_dies(
    watched: Watched, tmp_path: Path
) -> None:
    watched.send(tmp_path, 6)
    [alert] = watched.wait_told(1)
    assert alert["Subject"] == f"[Letterlock Warning] TLS required for {PARTNER} failed: NameMismatch"
    assert alert["From"].addresses[0].addr_spec == "gateway@letterlock.example"
    assert [one.addr_spec for one in alert["To"].addresses] == [f"ops@{WATCHERS}"]
    assert alert["Auto-Submitted"] == "auto-generated"
    assert "<>" in alert["Return-Path"]
    said = " ".join(alert.get_content().split())
    assert f"asked for {PARTNER}; certificate is for other.example" in said
    assert "DestinationControl partner, RequiredVerify" in said
    assert "member default-0" in said
    # Postfix demands TLS, and says that it had it: the alert went by the policy of its own domain.
    assert "with ESMTPS" in str(alert["Received"])
    order = stored.order(NewMessage("", (NewRecipient(f"ops@{WATCHERS}"),), b"Subject: x\r\n\r\n", 0))
    assert asyncio.run(control.ask(watched.member.spool, order))["problems"], "no mail comes in by that door"
    watched.member.kill_worker(watched.member.worker_pids()[0])
    watched.wait_failed(6)
    watched.member.kill9()
    watched.member.start().wait_ready(seconds=60)
    watched.send(tmp_path, 2)
    watched.wait_failed(6)
    assert len(watched.told()) == 1
    health = watched.member.metrics()
    assert 'letterlock_tls_required_failures_total{destination="partner",reason="NameMismatch"}' in health
    # Once it fits, the mail goes out, and there is nothing more to tell.
    watched.partner.use_certificate(watched.authority.issue(PARTNER))
    waiting.until(lambda: watched.member.queue() == 0, seconds=60, what="an empty queue")
    waiting.until(lambda: len(watched.partner.messages()) == 8, seconds=60, what="all of it in the mailbox")
    assert len(watched.told()) == 1


def test_those_inside_the_failing_domain_are_left_out_and_named_and_nobody_is_told_where_it_is_off(
    watched: Watched, tmp_path: Path
) -> None:
    watched.alert = False
    watched.member.wait_running(watched.publish())
    watched.send(tmp_path)
    watched.wait_failed(2)
    assert watched.told() == []
    watched.alert = True
    watched.recipients.append(takes(f"inside@{PARTNER}", "Warning"))
    watched.member.wait_running(watched.publish())
    [alert] = watched.wait_told(1)
    assert [one.addr_spec for one in alert["To"].addresses] == [f"ops@{WATCHERS}"]
    waiting.until(
        lambda: watched.member.logged(f"Alert not sent to <inside@{PARTNER}>, whose own domain fails"),
        what="who was left out",
    )
    # The alert itself cannot bounce, nor be told of: its own domain fails now, and nobody is left to tell.
    watched.watchers.use_certificate(watched.authority.issue("unknown.example"))
    watched.wait_closed()
    watched.recipients = [takes(f"ops@{WATCHERS}")]
    watched.listener_pem = pair("mx.letterlock.example", (-400, 3))
    watched.member.wait_running(watched.publish())
    waiting.until(
        lambda: watched.member.logged(f"Alert not sent to <ops@{WATCHERS}>"),
        seconds=60,
        what="a domain that fails named",
    )
    watched.watchers.use_certificate(watched.authority.issue(WATCHERS))
    told = watched.wait_told(2)
    assert "Certificate public expires within 5 days" in told[1]["Subject"]
    assert not watched.member.logged("Bounced:")


def test_what_ends_is_told_once_by_one_member_and_failures_by_each(
    tmp_path: Path, authority: Authority
) -> None:
    first, second = Watched(tmp_path, authority), Watched(tmp_path / "second", authority, name="default-1")
    ending = Issued.make("Partners Root", ca=True, signs=True, days=(-1000, 29), now=datetime.now(UTC))
    for one in (first, second):
        one.trusted = [authority.pem, ending.pem]
        one.listener_pem = pair("mx.letterlock.example", (-400, -1))
        one.recipients = [takes(f"ops@{WATCHERS}", "Warning"), takes(f"boss@{WATCHERS}", "Critical")]
        one.watchers, one.partner = first.watchers, first.partner
    expected = [one.publish() for one in (first, second)]
    try:
        with first.partner, first.watchers, first.member, second.member:
            for one, snapshot in zip((first, second), expected, strict=True):
                one.member.wait_ready()
                one.member.wait_running(snapshot)
            told = {one["To"].addresses[0].addr_spec: one for one in first.wait_told(2)}
            assert (
                told[f"boss@{WATCHERS}"]["Subject"] == "[Letterlock Critical] Certificate public has expired"
            )
            subject = "[Letterlock Warning] A CA in CAList partners expires within 30 days"
            assert told[f"ops@{WATCHERS}"]["Subject"] == subject
            assert "CN=Partners Root" in told[f"ops@{WATCHERS}"].get_content()
            first.member.kill9()
            first.member.start().wait_ready(seconds=60)
            first.member.wait_running(expected[0])
            # A failure is told after what ends has been looked at: by each member that meets it.
            for one in (first, second):
                one.send(tmp_path)
            later = first.wait_told(4)[2:]
            assert sorted(" ".join(one.get_content().split()).count("member default-1") for one in later) == [
                0,
                1,
            ]
            assert {one["Subject"].rpartition(" ")[2] for one in later} == {"NameMismatch"}
            assert len(first.told()) == 4
    finally:
        first.watchers.remove()
        first.partner.remove()
