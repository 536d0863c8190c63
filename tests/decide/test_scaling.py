"""No member goes before it is known to hold no mail, whatever is not known about it."""

from dataclasses import replace

import pytest

from letterlock_api.conditions import Type
from letterlock_api.mailgateway import MailGateway, MailGatewayStatus
from letterlock_api.snapshot import Snapshot
from letterlock_api.state import MemberState
from letterlock_operator.decide import decide, scaling
from letterlock_operator.decide.objects import Pods, objects
from letterlock_operator.world import Keep, Member, World
from tests.decide import builders

GENERATION = 7


def gateway(replicas: int, *, force: str = "") -> MailGateway:
    return MailGateway.model_validate(
        {
            "metadata": {
                "name": "default",
                "generation": GENERATION,
                "annotations": {scaling.FORCE: force} if force else {},
            },
            "spec": {"replicas": replicas},
        }
    )


def member(number: int, *, queue: int = 0, drained: int = 0, ready: bool = True) -> Member:
    state = MemberState(member=f"default-{number}", queue=queue, drained=drained)
    return Member(f"default-{number}", ready, state, address=f"10.0.0.{number}")


def world(wanted: int, *members: Member, present: int | None = None, force: str = "") -> World:
    count = len(members) if present is None else present
    one = gateway(wanted, force=force)
    return World(
        namespace="mail", gateways={"default": one}, members={"default": members}, scales={"default": count}
    )


def judged(seen: World, *admitted: int) -> scaling.Scaling:
    """`admitted`: those that the snapshot in place says may take mail; none given: it says nothing of it."""
    admits = [f"default-{number}" for number in admitted]
    before = Snapshot(gateway="default", admits=admits) if admitted else None
    return scaling.judge(seen, seen.gateways["default"], before)


DRAINED = member(1, drained=GENERATION, ready=False)
SILENT = replace(member(1), state=None, problem="no answer within 2 s")


@pytest.mark.parametrize(
    ("seen", "replicas"),
    [
        pytest.param(world(2, member(0), member(1)), 2, id="as many as are wanted stay as they are"),
        pytest.param(world(3, member(0)), 3, id="more are wanted: at once"),
        pytest.param(world(1, member(0), member(1, queue=3)), 2, id="one that holds mail stays"),
        pytest.param(world(1, member(0), member(1)), 2, id="an empty one that still takes mail in stays"),
        pytest.param(world(1, member(0), DRAINED), 1, id="one that is drained goes"),
        pytest.param(
            world(1, member(0), member(1, drained=GENERATION - 1)),
            2,
            id="a word given under an earlier order is none",
        ),
        pytest.param(world(1, member(0), SILENT), 2, id="one that does not answer stays"),
        pytest.param(
            world(1, member(0), present=2), 2, id="one without a pod stays: its volume may hold mail"
        ),
        pytest.param(
            world(1, member(0), DRAINED, member(2, queue=1)),
            3,
            id="an ordinal below one that holds mail stays with it",
        ),
        pytest.param(
            world(1, member(0), member(1, queue=1), member(2, drained=GENERATION)),
            2,
            id="those above go when they can",
        ),
        pytest.param(world(0, member(0, drained=GENERATION)), 0, id="down to none"),
        pytest.param(
            world(1, member(0), member(1, queue=9), force="default-1"), 1, id="one that is given up goes"
        ),
        pytest.param(
            world(1, member(0), member(1, queue=9), force="default-2"),
            2,
            id="giving up one gives up no other",
        ),
        pytest.param(
            world(1, member(0), member(1, queue=1), present=1),
            2,
            id="a pod above what the StatefulSet was seen to ask for",
        ),
        pytest.param(
            world(1, member(0), replace(SILENT, leaving=True), present=1),
            1,
            id="one that ends is not called back",
        ),
    ],
)
def test_how_many_members_a_gateway_keeps(seen: World, replicas: int) -> None:
    assert judged(seen).replicas == replicas


UNSTARTED = replace(SILENT, name="default-2", ready=False)
STARTED = replace(UNSTARTED, started=True)


@pytest.mark.parametrize(
    ("seen", "admitted", "replicas"),
    [
        pytest.param(
            world(2, member(0), member(1), UNSTARTED),
            (0, 1),
            2,
            id="one whose program never ran goes at once",
        ),
        pytest.param(world(2, member(0), member(1), present=3), (0, 1), 2, id="one that never had a pod"),
        pytest.param(
            world(2, member(0), member(1), STARTED),
            (0, 1),
            2,
            id="one that began just now: it has not been told that it may take mail",
        ),
        pytest.param(
            world(2, member(0), member(1), member(2, queue=1)),
            (0, 1),
            3,
            id="one that has mail by its own word stays, whatever it was told",
        ),
        pytest.param(
            world(2, member(0), member(1), UNSTARTED),
            (0, 1, 2),
            3,
            id="one that took mail before stays, though its new pod does not start",
        ),
        pytest.param(
            world(2, member(0), member(1), present=3),
            (0, 1, 2),
            3,
            id="one that took mail before and has no pod now stays",
        ),
        pytest.param(
            world(1, member(0), replace(UNSTARTED, name="default-1"), member(2, queue=2)),
            (0, 2),
            3,
            id="below one that holds mail it stays with it",
        ),
    ],
)
def test_who_never_might_take_mail_holds_none(seen: World, admitted: tuple[int, ...], replicas: int) -> None:
    assert judged(seen, *admitted).replicas == replicas


@pytest.mark.parametrize(
    ("seen", "admitted", "admits"),
    [
        pytest.param(world(3, member(0), member(1), UNSTARTED), (0, 1), (0, 1), id="not before it runs"),
        pytest.param(world(3, member(0), member(1), STARTED), (0, 1), (0, 1, 2), id="once its program runs"),
        pytest.param(
            world(3, member(0), member(1), member(2, ready=False)),
            (0, 1),
            (0, 1, 2),
            id="once it has answered",
        ),
        pytest.param(
            world(3, member(0), member(1), UNSTARTED),
            (0, 1, 2),
            (0, 1, 2),
            id="for good: its volume has a past",
        ),
        pytest.param(
            world(3, member(0), member(1), replace(STARTED, leaving=True)),
            (0, 1),
            (0, 1),
            id="a pod that ends says nothing of the next",
        ),
        pytest.param(world(2, member(0), member(1), STARTED), (0, 1), (0, 1), id="not one that is to go"),
        pytest.param(
            world(1, member(0), member(1, queue=1)), (0, 1), (0, 1), id="one that is to go and still has mail"
        ),
        pytest.param(world(1, member(0), DRAINED), (0, 1), (0,), id="no more once it is empty"),
        pytest.param(
            world(1, member(0), member(1, queue=9), force="default-1"),
            (0, 1),
            (0, 1),
            id="one that was given up: its volume has mail",
        ),
    ],
)
def test_who_may_take_mail(seen: World, admitted: tuple[int, ...], admits: tuple[int, ...]) -> None:
    assert judged(seen, *admitted).admits == tuple(f"default-{number}" for number in admits)


@pytest.mark.parametrize(
    ("claims", "admits"),
    [
        pytest.param(frozenset[str](), ("default-0",), id="a new gateway: those that run"),
        pytest.param(
            frozenset({"spool-default-1", "spool-default-x", "spool-other-2", "data-default-2"}),
            ("default-0", "default-1"),
            id="an earlier gateway of that name left a spool",
        ),
        pytest.param(None, None, id="nobody could look: all"),
    ],
)
def test_where_no_snapshot_says_who_may_take_mail(
    claims: frozenset[str] | None, admits: tuple[str, ...] | None
) -> None:
    assert judged(replace(world(3, member(0)), claims=claims)).admits == admits


def test_what_members_are_told_follows_from_the_snapshot_in_place() -> None:
    """And it changes nothing of what any resource says it is: nobody is behind because somebody came."""
    first = decide(replace(world(2, member(0)), claims=frozenset()), builders.NOW).mounts["default"].snapshot
    assert first.admits == ["default-0"]
    later = replace(
        world(2, member(0), member(1)),
        config_maps={
            "default-snapshot": Keep("default-snapshot", {"snapshot.json": first.encode()}, ours=True)
        },
    )
    second = decide(later, builders.NOW).mounts["default"].snapshot
    assert second.admits == ["default-0", "default-1"]
    assert second.digests == first.digests


def test_surplus_members_are_told_to_whom_their_mail_goes() -> None:
    found = judged(world(2, member(0), member(1, ready=False), member(2, queue=5), member(3)))
    assert [(one.member, one.order, one.peers) for one in found.drains] == [
        ("default-2", GENERATION, ["10.0.0.0"]),
        ("default-3", GENERATION, ["10.0.0.0"]),
    ]
    assert found.warning is not None
    assert "default-2 has 5 recipients left" in found.warning.message


def test_one_that_is_let_go_is_told_so_until_it_has_ended() -> None:
    assert [one.member for one in judged(world(1, member(0), DRAINED, present=1)).drains] == ["default-1"]


def test_what_the_warning_says_to_do_about_one_that_does_not_answer() -> None:
    found = judged(world(1, member(0), SILENT))
    assert found.warning is not None
    assert "default-1 does not answer: no answer within 2 s" in found.warning.message
    assert scaling.FORCE in found.warning.message


def test_members_that_go_do_not_count_for_programmed_and_the_condition_says_why_they_are_there() -> None:
    seen = world(1, member(0), member(1, queue=1))
    plan = decide(seen, builders.NOW)
    status = plan.statuses["MailGateway", "default"]
    assert [one.message for one in status.conditions if one.type == Type.DRAINING]
    assert isinstance(status, MailGatewayStatus)
    assert status.ready == "1/1"
    assert plan.replicas == {"default": 2}
    stateful_set = next(one for one in objects(seen, plan, Pods("image")) if one["kind"] == "StatefulSet")
    assert stateful_set["spec"]["replicas"] == 2
    assert [one.member for one in plan.mounts["default"].snapshot.drains] == ["default-1"]


def test_a_gateway_without_a_cluster_keeps_its_one_member() -> None:
    seen = replace(world(0, member(0, queue=1)), scales=None)
    assert judged(seen) == scaling.Scaling(0)


def test_pods_are_told_how_long_they_accept_and_get_the_time_for_it() -> None:
    seen = world(1, member(0))
    made = objects(seen, decide(seen, builders.NOW), Pods("image"))
    pod = next(one for one in made if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    linger, grace = (int(arguments[arguments.index(option) + 1]) for option in ("--linger", "--grace"))
    assert linger >= 10
    assert linger + grace < pod["terminationGracePeriodSeconds"]
