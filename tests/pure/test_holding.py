"""Which statuses wait a moment for what is said next, and for how long."""

from typing import Any

import pytest

from letterlock_operator.act import holding

OLD, NEW = "a" * 8, "b" * 8


def condition(status: str, reason: str, message: str = "", kind: str = "Programmed") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1}


def gateway(snapshot: str, *members: str | None, queue: int = 0) -> dict[str, Any]:
    """A MailGateway's status; `members`: the snapshots that they run, None of one that does not answer."""
    told = [
        {"name": f"mx-{ordinal}", "queue": queue} | ({"snapshot": one} if one else {})
        for ordinal, one in enumerate(members)
    ]
    return {"snapshot": snapshot, "members": told, "conditions": [condition("True", "Programmed")]}


def other(*conditions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"conditions": list(conditions), **fields}


NOW = 1000.0
PENDING = condition("False", "Pending", "waiting for mx-0, mx-1 to take it")
BEHIND = condition("False", "MembersBehind", "not yet taken by mx-1")
PROGRAMMED = condition("True", "Programmed", "all 2 members run it")


@pytest.mark.parametrize(
    ("wanted", "present"),
    [
        pytest.param(gateway(NEW, OLD), gateway(OLD, OLD), id="a snapshot that no member has taken yet"),
        pytest.param(gateway(NEW, NEW, OLD), gateway(OLD, OLD, OLD), id="one that some have taken"),
        pytest.param(
            gateway(NEW, None, OLD), gateway(OLD, None, OLD), id="one that waits beside a silent one"
        ),
        pytest.param(other(BEHIND), other(PENDING), id="another number of members that are behind"),
    ],
)
def test_what_is_on_its_way_waits_for_so_long_and_no_longer(
    wanted: dict[str, Any], present: dict[str, Any]
) -> None:
    assert holding.since(None, wanted, present, NOW, reissued=False) == NOW
    assert holding.since(NOW, wanted, present, NOW + 4, reissued=False) == NOW
    assert holding.since(NOW, wanted, present, NOW + 5, reissued=False) is None


@pytest.mark.parametrize(
    ("wanted", "present"),
    [
        pytest.param(gateway(NEW, NEW), gateway(OLD, OLD), id="a snapshot that all have taken"),
        pytest.param(gateway(NEW, NEW, None), gateway(OLD, OLD, None), id="that all who answer have taken"),
        pytest.param(gateway(NEW, None), gateway(OLD, None), id="that nobody will take"),
        pytest.param(gateway(NEW), gateway(OLD), id="of no members"),
        pytest.param(gateway(NEW, OLD, queue=3), gateway(OLD, OLD), id="together with something else"),
        pytest.param(other(PENDING), other(PROGRAMMED), id="a resource that is not Programmed any more"),
        pytest.param(other(PROGRAMMED), other(BEHIND), id="one that is Programmed"),
        pytest.param(other(condition("False", "BindFailed")), other(PENDING), id="one with a problem"),
        pytest.param(
            other({**PENDING, "observedGeneration": 2}), other(PENDING), id="one of another generation"
        ),
        pytest.param(
            other(condition("False", "Pending", "b", "Ready")),
            other(condition("False", "Pending", "a", "Ready")),
            id="another condition",
        ),
        pytest.param(other(PENDING), {}, id="the first status"),
    ],
)
def test_all_else_is_said_at_once(wanted: dict[str, Any], present: dict[str, Any]) -> None:
    assert holding.since(None, wanted, present, NOW, reissued=False) is None


def test_whatever_is_said_of_what_was_made_anew_waits_for_the_next_decision() -> None:
    assert holding.since(None, other(PENDING), other(PROGRAMMED), NOW, reissued=True) == NOW
    assert holding.since(NOW, other(PENDING), other(PROGRAMMED), NOW + 5, reissued=True) is None
