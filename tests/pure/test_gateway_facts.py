"""What several members say, made one: sums, the latest of all, and clocks that are not quite the same."""

from datetime import UTC, datetime, timedelta

import pytest

from letterlock_api.destinationcontrol import FailingDomain
from letterlock_api.state import DestinationState, ListenerState, MemberState
from letterlock_gateway.spool.traffic import STEPS, Series, Traffic
from letterlock_gateway.web.facts import gateway
from letterlock_gateway.web.facts.gateway import Waiting
from letterlock_gateway.web.looks import Part

STEP = 1800.0
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def day(start: float, **steps: int) -> Traffic:
    """A day with so much in some of its steps: `s3=5` is five in the fourth."""
    counts = [steps.get(f"s{one}", 0) for one in range(STEPS)]
    return Traffic(start, STEP, (Series("Encrypted", "good", counts),), (), 1)


def failing(domain: str, hours: int) -> FailingDomain:
    return FailingDomain(domain=domain, reason="Unreachable", since=NOW - timedelta(hours=hours))


def said(member: str, **fields: object) -> Part[MemberState]:
    return Part(member, MemberState.model_validate({"member": member, **fields}))


def test_days_are_summed_each_step_at_its_time_whoever_has_begun_the_next_one() -> None:
    parts = [
        Part("a", day(0.0, s0=7, s1=1, s47=2)),
        Part("b", day(STEP, s0=10, s46=20, s47=40)),
        Part[Traffic]("c", None, "gone"),
    ]
    found = gateway.day(parts)
    assert found is not None
    assert (found.start, found.bounced) == (STEP, 2)
    # The first step of the one that is behind is no part of the latest day any more.
    values = found.incoming[0].values
    assert (values[0], values[46], values[47]) == (1 + 10, 2 + 20, 40)
    assert gateway.day([Part[Traffic]("c", None, "gone")]) is None


def test_a_day_goes_to_another_member_and_back() -> None:
    one = day(STEP, s5=3)
    assert gateway.read_traffic(gateway.traffic_to_json(one)) == one
    short = Traffic(0.0, STEP, (Series("Encrypted", "good", [1, 2]),), (), 0)
    with pytest.raises(ValueError, match="not a whole day"):
        gateway.read_traffic(gateway.traffic_to_json(short))


def test_what_waits_is_summed_and_the_oldest_is_the_oldest_of_all() -> None:
    one = Waiting.model_validate(
        {"recipients": 3, "oldest": NOW, "domains": [{"domain": "a", "recipients": 3}]}
    )
    other = Waiting.model_validate(
        {
            "recipients": 5,
            "oldest": NOW - timedelta(hours=1),
            "domains": [{"domain": "b", "recipients": 4}, {"domain": "a", "recipients": 1}],
        }
    )
    found = gateway.waiting([Part("x", one), Part("y", other), Part[Waiting]("z", None, "gone")])
    assert (found.recipients, found.oldest) == (8, NOW - timedelta(hours=1))
    assert {(one.domain, one.recipients) for one in found.domains} == {("a", 4), ("b", 4)}


def test_a_listener_listens_when_it_does_on_every_member_that_was_read() -> None:
    yes, no = ListenerState(name="public", listening=True), ListenerState(name="public", listening=False)
    both = [said("a", listeners=[yes]), said("b", listeners=[yes]), Part[MemberState]("c", None, "gone")]
    assert gateway.listeners(both)["public"].listening
    assert gateway.listeners([said("a", listeners=[yes]), said("b", listeners=[no])])["public"].problem == (
        "b: does not listen yet"
    )
    assert not gateway.listeners([said("a", listeners=[yes]), said("b")])["public"].listening


def test_a_domain_fails_while_it_fails_on_any_member_since_the_first_saw_it() -> None:
    parts = [
        said(
            "a", destinations=[DestinationState(resource="x", failing=[failing("one", 1), failing("two", 5)])]
        ),
        said("b", destinations=[DestinationState(resource="x", failing=[failing("one", 3)])]),
    ]
    found = gateway.destinations(parts)["x"].failing
    assert [(one.domain, one.since) for one in found] == [
        ("two", NOW - timedelta(hours=5)),
        ("one", NOW - timedelta(hours=3)),
    ]
