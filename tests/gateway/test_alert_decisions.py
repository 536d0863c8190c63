"""Which alerts are due, to whom, and what they say (D10): decisions alone, under any sequence of failures."""

import itertools
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from letterlock_api.snapshot import SnapshotAlertRecipient, SnapshotAlerts
from letterlock_gateway.report import alert_mail, alerts, endings
from letterlock_gateway.report.alerts import MOST, PERIOD, Told
from letterlock_gateway.report.endings import ENDED, Watched
from letterlock_gateway.report.metrics import Metrics
from letterlock_gateway.report.tls_failures import MOST_DOMAINS, TLSFailure, TLSFailures, merged
from tests.harness import programs
from tests.harness.issued import Issued

DAY = 86400.0
ORIGIN = alert_mail.Origin("default", "mail", "default-0", "mx.example.com", None)


def failure(domain: str = "partner.example", at: float = 0.0, text: str = "name did not match") -> TLSFailure:
    return TLSFailure(domain, "partners", "RequiredVerify", "NameMismatch", text, "mx.partner.example", at)


def told_at(groups: list[tuple[float, tuple[TLSFailure, ...]]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for at, group in groups:
        for one in group:
            found[one.domain].append(at)
    return found


# Where the end of a period, a sum, is not its end by the difference, it was due again at once, and again.
@example([(0, 0.03), *((number, 0.0) for number in range(1, 20)), (20, 0.0)])
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.floats(0, 2 * PERIOD)),
        max_size=120,
    )
)
def test_no_domain_is_told_twice_an_hour_no_member_tells_too_much_and_none_is_forgotten(
    steps: list[tuple[int, float]],
) -> None:
    """Each step: so much time passes, then a domain fails. In the end the room that is needed comes by itself."""
    now, told, waiting = 1000.0, Told({}), dict[str, TLSFailure]()
    sent: list[tuple[float, tuple[TLSFailure, ...]]] = []
    failed: list[str] = []

    def tell() -> float | None:
        nonlocal told, waiting
        due = alerts.due(waiting, told, now)
        for group in due.groups:
            sent.append((now, group))
            told = told.after(group, now, sent=True)
            waiting = {key: one for key, one in waiting.items() if one not in group}
        return due.again

    for number, seconds in steps:
        now += seconds / 10
        waiting = merged(waiting, [failure(f"d{number}.example", now)])
        failed.append(f"d{number}.example")
        tell()
    while (again := tell()) is not None:
        assert again > now
        now = again
    moments = [at for at, _ in sent]
    for domain, times in told_at(sent).items():
        assert all(later >= earlier + PERIOD for earlier, later in itertools.pairwise(times)), domain
    assert all(sum(at <= one < at + PERIOD for one in moments) <= MOST for at in moments)
    assert set(told_at(sent)) == set(failed)


def test_a_flood_of_domains_is_one_message_that_counts_them() -> None:
    waiting = merged({}, [failure(f"d{n}.example", n) for n in range(300)])
    due = alerts.due(waiting, Told({}), 300.0)
    assert len(due.groups) == MOST
    assert len(due.groups[-1]) == 300 - MOST + 1
    assert "And 231 more domains" in alert_mail.tls_failed(due.groups[-1]).text
    after = Told({})
    for group in due.groups:
        after = after.after(group, 300.0, sent=True)
    later = alerts.due(merged({}, [failure("new.example", 301.0)]), after, 301.0)
    assert (later.groups, later.again) == ((), 300.0 + PERIOD)


def test_repeats_are_counted_and_told_with_the_next_message() -> None:
    told = Told({}).after([failure(at=0.0)], 1.0, sent=True)
    waiting = merged({}, [failure(at=60.0), failure(at=180.0)])
    assert alerts.due(waiting, told, 181.0) == alerts.Due(bundled=("partner.example",))
    waiting = merged(waiting, [failure(at=PERIOD + 2)])
    [[one]] = alerts.due(waiting, told, PERIOD + 2).groups
    assert one.count == 3
    assert "3 since the last message" in alert_mail.tls_failed([one]).text


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    told = Told({"partner.example": 10 * PERIOD}, (10 * PERIOD,) * MOST)
    assert alerts.due(merged({}, [failure(at=5.0)]), told, 5.0).groups


def test_what_a_worker_gathers_is_bounded() -> None:
    seen = TLSFailures()
    for n in range(MOST_DOMAINS + 10):
        seen.record(failure(f"d{n}.example", n, text="x" * 100_000))
    taken = seen.take()
    assert len(taken) == MOST_DOMAINS
    assert max(len(one.text) for one in taken) == 1000
    assert seen.take() == []
    assert [TLSFailure.from_json(one.to_json()) for one in taken] == taken


SETTINGS = SnapshotAlerts(
    recipients=[
        SnapshotAlertRecipient(address="all@a.example", severities=["Critical", "Warning"], types=["System"]),
        SnapshotAlertRecipient(address="critical@a.example", severities=["Critical"], types=["System"]),
        SnapshotAlertRecipient(address="other@a.example", severities=["Warning"], types=["Delivery"]),
        SnapshotAlertRecipient(address="in@Partner.Example", severities=["Warning"], types=["System"]),
        SnapshotAlertRecipient(address="all@a.example", severities=["Warning"], types=["System", "Delivery"]),
    ]
)


@pytest.mark.parametrize(
    ("severity", "failing", "kept", "left_out"),
    [
        pytest.param("Warning", (), ["all@a.example", "in@Partner.Example"], [], id="each once"),
        pytest.param(
            "Warning", ("partner.example",), ["all@a.example"], ["in@Partner.Example"], id="not inside"
        ),
        pytest.param("Critical", (), ["all@a.example", "critical@a.example"], [], id="by severity"),
        pytest.param("Info", (), [], [], id="nobody"),
    ],
)
def test_alerts_go_to_those_who_take_them_outside_of_what_fails(
    severity: str, failing: tuple[str, ...], kept: list[str], left_out: list[str]
) -> None:
    found = alerts.addressees(SETTINGS, severity, "System", failing)  # pyright: ignore[reportArgumentType] - a word
    assert (list(found.kept), list(found.left_out)) == (kept, left_out)


def certificate(days_left: float, lifetime: float = 365, kind: endings.Kind = "Certificate") -> Watched:
    return Watched(kind, "mx", "CN=mx", "ab", (days_left - lifetime) * DAY, days_left * DAY)


@pytest.mark.parametrize(
    ("one", "step"),
    [
        pytest.param(certificate(73.1), None, id="long before"),
        pytest.param(certificate(60.0), 60, id="60 days"),
        pytest.param(certificate(29.0), 30, id="30 days"),
        pytest.param(certificate(0.5), 1, id="1 day"),
        pytest.param(certificate(0.0), ENDED, id="ended"),
        pytest.param(certificate(-3.0), ENDED, id="ended days ago"),
        pytest.param(certificate(29.0, 90), None, id="90 days long: the last fifth only"),
        pytest.param(certificate(14.9, 90), 15, id="90 days long: 15 days"),
        pytest.param(certificate(0.1, 0.9), None, id="hours long: not before it ends"),
        pytest.param(certificate(89.9, 91, "CAList"), 90, id="a CA, whatever its life"),
        pytest.param(certificate(90.1, 365, "CAList"), None, id="a CA, long before"),
    ],
)
def test_what_ends_is_told_at_its_steps(one: Watched, step: int | None) -> None:
    assert [found for _, found in endings.due([one], {}, 0.0)] == ([] if step is None else [step])


def test_each_step_is_told_once_and_found_at_its_time() -> None:
    one, told, now = certificate(100, kind="CAList"), dict[str, tuple[int, float]](), 0.0
    steps: list[int] = []
    while (following := endings.next_step([one], now)) is not None:
        now = following
        due = endings.due([one, one], told, now)
        steps += [step for _, step in due]
        told = dict(endings.remembered(told, due, now))
        assert endings.due([one], told, now + 1) == []
    assert steps == [90, 60, 30, 15, 5, 1, ENDED]
    assert endings.remembered(told, [], now + 99 * DAY) == told
    assert endings.remembered(told, [], now + 101 * DAY) == {}


def test_of_a_chain_what_ends_first_counts_and_of_a_list_every_ca() -> None:
    root = Issued.make("root", ca=True, days=(-1, 900))
    leaf = Issued.make("leaf", root, days=(-1, 90))
    chain = [leaf.certificate, root.certificate]
    [one] = endings.watched("Certificate", "mx", chain)
    assert one.subject == "CN=leaf"
    assert len(endings.watched("CAList", "own", chain)) == 2


def parsed(alert: alert_mail.Alert, *to: str, origin: alert_mail.Origin = ORIGIN) -> list[EmailMessage]:
    made = alert_mail.compose(alert, origin, to, 1e9)
    assert all(one.sender == "" for one in made), "the null sender: nothing comes back"
    assert all(to.notify == "NEVER" for one in made for to in one.recipients)
    return [message_from_bytes(one.body, policy=policy.default) for one in made]


def test_an_alert_is_a_message_that_says_who_what_and_that_a_program_wrote_it() -> None:
    text = (
        "name did not match: asked for partner.example; certificate is for other.example\r\nBcc: x@y.example"
    )
    [message] = parsed(alert_mail.tls_failed([failure(text=text)]), "ops@a.example", "two@b.example")
    assert message["From"].addresses[0].addr_spec == "alerts@mx.example.com"
    assert [one.addr_spec for one in message["To"].addresses] == ["ops@a.example", "two@b.example"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Subject"] == "[Letterlock Warning] TLS required for partner.example failed: NameMismatch"
    assert message["Bcc"] is None
    said = message.get_content().replace("\r\n", "\n")
    assert "asked for partner.example; certificate is for other.example Bcc: x@y.example\n" in said
    assert "DestinationControl partners, RequiredVerify" in said
    assert "member default-0 (mx.example.com)" in said
    assert message.defects == []
    out = subprocess.run(
        [str(programs.require("reformime")), "-i"],
        input=alert_mail.compose(alert_mail.tls_failed([failure()]), ORIGIN, ["ops@a.example"], 1e9)[0].body,
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout.decode()
    assert "content-type: text/plain" in out


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        pytest.param("a.example", "reply \udc80\udcff", id="no text at all"),
        pytest.param("a\udc80.example", "no", id="a domain that is none"),
        pytest.param("ü" * 10 + ".example", "\x00\x1b[31m\u2028.\r\n.\r\n", id="controls"),
        pytest.param("a" * 70 + "." + "b" * 200, "é" * 3000, id="long"),
    ],
)
def test_whatever_a_peer_says_makes_a_message(domain: str, text: str) -> None:
    [made] = alert_mail.compose(
        alert_mail.tls_failed([failure(domain, text=text)]), ORIGIN, ["ops@a.example"], 1e9
    )
    lines = made.body.split(b"\r\n")
    assert made.body.isascii()
    assert max(map(len, lines)) < 998
    assert b"." not in lines
    assert not any(b"\n" in line or b"\r" in line for line in lines)


def test_addresses_that_need_smtputf8_get_a_message_of_their_own() -> None:
    wanted = alert_mail.Origin("default", "mail", "default-0", "mx.example.com", "jörg@example.com")
    made = alert_mail.compose(
        alert_mail.tls_failed([failure()]), wanted, ["ops@a.example", "jörg@b.example"], 1e9
    )
    assert [(one.smtputf8, one.recipients[0].address) for one in made] == [
        (False, "ops@a.example"),
        (True, "jörg@b.example"),
    ]
    assert made[0].body.isascii()
    plain, _ = parsed(alert_mail.tls_failed([failure()]), "ops@a.example", "jörg@b.example", origin=wanted)
    assert plain["From"].addresses[0].addr_spec == "alerts@mx.example.com"


def test_what_ended_is_critical_and_named_with_its_end() -> None:
    day = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    one = Watched("CAList", "partners", "CN=Root", "ab" * 32, 0.0, day)
    [message] = parsed(alert_mail.ending("Critical", [(one, ENDED)]), "ops@a.example")
    assert message["Subject"] == "[Letterlock Critical] A CA in CAList partners has expired"
    assert "2026-06-01T00:00:00Z" in message.get_content()
    [message] = parsed(
        alert_mail.ending("Warning", [(certificate(4), 5), (certificate(14), 15)]), "ops@a.example"
    )
    assert message["Subject"].endswith("Certificate mx expires within 5 days, and 1 more")


def test_metrics_are_what_prometheus_reads() -> None:
    counted = Metrics()
    counted.count("letterlock_alerts_total", severity="Warning", type="System")
    counted.count("letterlock_tls_required_failures_total", 3, destination='a"b', reason="NameMismatch")
    lines = counted.text().decode().splitlines()
    assert 'letterlock_alerts_total{severity="Warning",type="System"} 1' in lines
    assert 'letterlock_tls_required_failures_total{destination="a\\"b",reason="NameMismatch"} 3' in lines
    assert "# TYPE letterlock_alerts_total counter" in lines
