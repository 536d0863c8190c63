"""Imports of PKCS#12 files that were refused: not tried again, but where their time comes (C4)."""

from datetime import timedelta

from letterlock_api.conditions import Reason
from letterlock_operator.decide import decide
from letterlock_operator.plan import Import, Plan
from letterlock_operator.world import Keep, Refusal, World
from tests.decide.builders import NOW, certificate, gateway, verdict, world

START = NOW + timedelta(days=2)


def imports(plan: Plan) -> list[Import]:
    """The files that are to be opened."""
    return [one for one in plan.issues if isinstance(one, Import)]


def given(refusals: dict[str, Refusal], level: str = "Cluster") -> World:
    """A gateway whose certificate is in a file."""
    file = {"name": "file", "key": "mx.p12"}
    secrets = {"file": Keep("file", {"mx.p12": b"a file"}, ours=False)}
    spec = certificate(pkcs12={"secretKeyRef": file}, level=level)
    return world(gateway(), spec, secrets=secrets, refusals=refusals)


def refused(until: bool) -> dict[str, Refusal]:
    """What is remembered of the file."""
    (order,) = imports(decide(given({}), NOW))
    return {order.attempt: Refusal(Reason.NOT_YET_VALID, "not yet", START if until else None)}


def test_what_was_refused_is_not_opened_again():
    plan = decide(given(refused(until=False)), START)
    assert not imports(plan)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "NotYetValid")


def test_what_is_valid_from_a_day_on_is_opened_then():
    early = decide(given(refused(until=True)), NOW)
    assert not imports(early)
    assert early.wake is not None
    assert early.wake <= START
    assert imports(decide(given(refused(until=True)), START))


def test_what_cannot_serve_all_members_is_opened_for_one():
    assert imports(decide(given(refused(until=False), "Machine"), NOW))
