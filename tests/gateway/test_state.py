"""A member's state from what its workers say, and what deliveries came to."""

from datetime import UTC, datetime, timedelta
from typing import Any

from letterlock_api.destinationcontrol import LastTLS
from letterlock_api.state import DestinationState, ListenerState
from letterlock_gateway.manage.merging import Refusal, Report, merge, report_message
from letterlock_gateway.report.outcomes import Outcomes

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def worker(**changes: Any) -> Report:
    """A worker that runs set `a` and listens on `public`."""
    fields: dict[str, Any] = {
        "snapshot": "a",
        "digests": {"Listener/public": "1"},
        "problem": "",
        "listeners": (ListenerState(name="public", listening=True),),
    }
    return Report(**(fields | changes))


def last(
    domain: str = "peer.example", result: str = "Delivered", after: float = 0.0, **changes: Any
) -> LastTLS:
    time = NOON + timedelta(seconds=after)
    return LastTLS(time=time, member="m-0", domain=domain, result=result, **changes)


def heard(report: Report, outcomes: Outcomes, queue: int | None = 0) -> Report:
    """The report after the worker has sent what changed."""
    message = report_message(
        snapshot=report.snapshot,
        refused="",
        refused_reason="",
        problem="",
        listeners=report.listeners,
        queue=queue,
        destinations=outcomes.take_changed(),
    )
    return report.updated(message, report.digests)


def test_a_snapshot_runs_when_every_worker_runs_it() -> None:
    assert merge("m-0", {0: worker(), 1: worker()}).snapshot == "a"
    assert merge("m-0", {0: worker(), 1: worker(snapshot="b")}).snapshot == ""
    assert merge("m-0", {0: worker(), 1: Report()}).snapshot == ""


def test_a_listener_listens_when_it_does_on_every_worker_and_else_the_state_says_why_not() -> None:
    (both,) = merge("m-0", {0: worker(), 1: worker()}).listeners
    assert (both.listening, both.problem) == (True, None)
    (starting,) = merge("m-0", {0: worker(), 1: Report()}).listeners
    assert (starting.listening, starting.problem) == (False, "worker 1 is starting")
    busy = (ListenerState(name="public", listening=False, problem="port 25 is in use"),)
    (failed,) = merge("m-0", {0: worker(), 1: worker(listeners=busy)}).listeners
    assert (failed.listening, failed.problem) == (False, "port 25 is in use")


def test_between_two_snapshots_digests_are_those_that_every_worker_runs() -> None:
    before = worker(digests={"Listener/public": "1", "CAList/ours": "1", "Certificate/gone": "1"})
    after = worker(snapshot="b", digests={"Listener/public": "1", "CAList/ours": "2"})
    assert merge("m-0", {0: before, 1: after}).digests == {"Listener/public": "1"}
    assert merge("m-0", {0: before, 1: Report()}).digests == before.digests
    assert merge("m-0", {0: Report(), 1: Report()}).digests == {}


def test_queues_are_summed_and_one_that_is_not_known_counts_as_last_said() -> None:
    assert merge("m-0", {0: worker(queue=2), 1: worker(queue=3)}).queue == 5
    assert heard(worker(queue=3), Outcomes(), queue=None).queue == 3
    assert heard(worker(queue=3), Outcomes(), queue=1).queue == 1


def test_a_refused_set_is_told_whoever_refused_it() -> None:
    ours = merge("m-0", {0: worker()}, refusal=Refusal("b", "file x is not there"))
    assert (ours.snapshot, ours.refused, ours.refused_reason) == ("a", "b", "file x is not there")
    theirs = merge("m-0", {0: worker(), 1: worker(refused="c", refused_reason="cannot")})
    assert (theirs.refused, theirs.refused_reason) == ("c", "cannot")


def test_the_last_result_is_the_latest_of_all_workers_to_the_microsecond() -> None:
    first, second = Outcomes(), Outcomes()
    first.record("dc", last(host="later.example", after=0.4))
    second.record("dc", last(host="earlier.example", after=0.2))
    (state,) = merge("m-0", {0: heard(worker(), first), 1: heard(worker(), second)}).destinations
    assert state.last_tls is not None
    assert state.last_tls.host == "later.example"


def test_a_domain_fails_while_it_fails_on_any_worker_since_the_first_failure() -> None:
    first, second = Outcomes(), Outcomes()
    first.record("dc", last(result="NotTrusted", after=60))
    second.record("dc", last(result="NotTrusted", after=0))
    both = {0: heard(worker(), first), 1: heard(worker(), second)}
    (failing,) = merge("m-0", both).destinations[0].failing
    assert (failing.domain, failing.reason, failing.since) == ("peer.example", "NotTrusted", NOON)
    for number, outcomes in enumerate((first, second)):
        outcomes.record("dc", last(after=90))
        both[number] = heard(both[number], outcomes)
    assert merge("m-0", both).destinations[0].failing == []


def test_since_is_the_first_failure_and_the_reason_the_latest() -> None:
    outcomes = Outcomes()
    outcomes.record("dc", last(result="Unreachable", after=0))
    outcomes.record("dc", last(result="Expired", after=60))
    (state,) = outcomes.states()
    assert [(one.reason, one.since) for one in state.failing] == [("Expired", NOON)]


def test_the_state_shows_ten_failing_domains_and_fills_up_as_they_recover() -> None:
    outcomes = Outcomes()
    for number in range(12):
        outcomes.record("dc", last(f"d{number:02}.example", "Expired", after=number))
    report = heard(worker(), outcomes)

    def shown() -> list[str]:
        return [one.domain for one in merge("m-0", {0: report}).destinations[0].failing]

    assert shown() == [f"d{number:02}.example" for number in range(10)]
    outcomes.record("dc", last("d00.example", after=20))
    report = heard(report, outcomes)
    assert shown() == [f"d{number:02}.example" for number in range(1, 11)]


def test_a_flood_of_failing_domains_is_bounded() -> None:
    outcomes = Outcomes()
    for number in range(1000):
        outcomes.record("", last(f"d{number}.example", "Unreachable"))
    assert len(outcomes.states()[0].failing) == 200


def test_what_no_longer_belongs_to_a_resource_is_forgotten_everywhere() -> None:
    outcomes = Outcomes()
    outcomes.record("dc", last(result="Expired"))
    report = heard(worker(), outcomes)
    outcomes.reassign(lambda _domain: "other")
    report = heard(report, outcomes)
    assert merge("m-0", {0: report}).destinations == []


def test_a_domain_without_waiting_mail_no_longer_fails() -> None:
    outcomes = Outcomes()
    outcomes.record("dc", last(result="Expired"))
    outcomes.settled("dc", "peer.example")
    assert outcomes.states()[0].failing == []


def test_only_what_changed_is_sent() -> None:
    outcomes = Outcomes()
    outcomes.record("one", last())
    outcomes.record("two", last())
    assert [one.resource for one in outcomes.take_changed()] == ["one", "two"]
    outcomes.record("two", last())
    changed: list[DestinationState] = outcomes.take_changed()
    assert [one.resource for one in changed] == ["two"]
    assert outcomes.take_changed() == []
