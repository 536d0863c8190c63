"""The decision as a whole: the same world gives the same plan, and Programmed rests on what members say."""

import random
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from letterlock_api.destinationcontrol import FailingDomain, LastTLS
from letterlock_api.mailgateway import MailGatewayStatus
from letterlock_api.state import DestinationState, ListenerState, MemberState
from letterlock_operator.decide import decide
from letterlock_operator.decide.objects import Pods, objects
from letterlock_operator.world import FieldConflict, Keep, Member, Unreadable
from tests.decide.builders import (
    NOW,
    ca_list,
    ca_pem,
    certificate,
    condition,
    destination,
    gateway,
    issued,
    listener,
    running,
    settled,
    verdict,
    world,
)

PARTS: list[Any] = [
    gateway(),
    certificate(),
    listener(certificateRefs=[{"name": "mx"}], defaultPolicy={"tls": {"mode": "Preferred"}}),
    destination("partner", "partner.example", tls={"mode": "RequiredVerify"}),
    ca_list("own", certificates=ca_pem()),
]
OURS = [
    ("MailGateway", "default"),
    ("Certificate", "mx"),
    ("Listener", "public"),
    ("CAList", "own"),
    ("DestinationControl", "partner"),
]


@cache
def place() -> Any:
    """The world and the plan once all keys are made; made once, for keys are random."""
    return settled(*PARTS)


def with_members(*members: Member) -> Any:
    before, _ = place()
    return decide(world(*PARTS, secrets=before.secrets, members={"default": members}), NOW)


def wanted() -> Any:
    return place()[1]


def test_the_same_world_in_any_order_gives_the_same_bytes():
    before, plan = place()
    for seed in range(5):
        shuffled = list(PARTS)
        random.Random(seed).shuffle(shuffled)
        again = decide(world(*shuffled, secrets=before.secrets), NOW)
        assert again.mounts["default"].snapshot.encode() == plan.mounts["default"].snapshot.encode()


def test_everything_is_programmed_when_every_ready_member_runs_it():
    plan = wanted()
    after = with_members(running(plan, "default-0"), running(plan, "default-1"))
    for kind, name in OURS:
        assert verdict(after, kind, name, "Programmed") == ("True", "Programmed"), (kind, name)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        pytest.param({"state": {"digests": {}}}, "MembersBehind", id="one member is behind"),
        pytest.param({"silent": True}, "MemberUnreachable", id="one member does not answer"),
        pytest.param({"refused": True}, "SnapshotRefused", id="one member refused the snapshot"),
        pytest.param({"deaf": True}, "BindFailed", id="one member cannot bind the port"),
    ],
)
def test_one_member_is_enough_to_make_it_untrue(second: dict[str, Any], reason: str):
    plan = wanted()
    if "silent" in second:
        other = Member("default-1", ready=True, state=None, problem="connection refused")
    elif "refused" in second:
        other = running(plan, "default-1", refused=plan.mounts["default"].snapshot.hash(), digests={})
    elif "deaf" in second:
        other = running(
            plan, "default-1", listeners=[ListenerState(name="public", listening=False, problem="in use")]
        )
    else:
        other = running(plan, "default-1", **second["state"])
    after = with_members(running(plan, "default-0"), other)
    assert verdict(after, "Listener", "public", "Programmed") == ("False", reason)
    assert "default-1" in condition(after, "Listener", "public", "Programmed").message


def test_a_member_that_is_not_ready_does_not_count_and_none_at_all_is_not_enough():
    plan = wanted()
    sleeping = Member("default-1", ready=False, state=None)
    assert verdict(with_members(running(plan), sleeping), "Listener", "public", "Programmed")[0] == "True"
    assert verdict(with_members(sleeping), "Listener", "public", "Programmed") == ("False", "NoMembers")


def test_a_changed_certificate_makes_its_listener_not_programmed_until_it_is_served():
    before, plan = place()
    other = certificate(dnsNames=["mx.example.com", "mail.example.com"])
    changed = [other if one.kind == "Certificate" else one for one in PARTS]
    ordered = decide(world(*changed, secrets=before.secrets), NOW)
    fresh = issued(ordered, revision="2")
    after = decide(
        world(*changed, secrets={**before.secrets, **fresh}, members={"default": (running(plan),)}),
        NOW,
    )
    assert verdict(after, "Listener", "public", "Programmed") == ("False", "Pending")
    assert verdict(after, "DestinationControl", "partner", "Programmed") == ("True", "Programmed")


def failing(domain: str, reason: str) -> DestinationState:
    last = LastTLS(time=NOW, member="default-0", domain=domain, result=reason, reason="asked for x, shown y")
    return DestinationState(
        resource="partner", last_tls=last, failing=[FailingDomain(domain=domain, reason=reason, since=NOW)]
    )


@pytest.mark.parametrize("reason", ["NotTrusted", "NameMismatch", "TLSNotOffered", "Expired", "Unreachable"])
def test_delivering_is_false_while_a_domain_fails_with_the_members_reason(reason: str):
    plan = wanted()
    after = with_members(running(plan, destinations=[failing("partner.example", reason)]))
    assert verdict(after, "DestinationControl", "partner", "Delivering") == ("False", reason)
    assert "asked for x" in condition(after, "DestinationControl", "partner", "Delivering").message


def test_delivering_is_unknown_without_traffic_and_true_after_a_delivery():
    plan = wanted()
    assert verdict(with_members(running(plan)), "DestinationControl", "partner", "Delivering") == (
        "Unknown",
        "NoTraffic",
    )
    last = LastTLS(
        time=NOW,
        member="default-0",
        domain="partner.example",
        host="mx.partner.example",
        result="Delivered",
        protocol="TLSv1.3",
        verified=True,
        matched_name="partner.example",
    )
    after = with_members(running(plan, destinations=[DestinationState(resource="partner", last_tls=last)]))
    assert verdict(after, "DestinationControl", "partner", "Delivering") == ("True", "Delivered")


def test_what_was_given_up_is_no_delivery():
    """It has bounced, so that nothing waits and nothing fails; nothing was delivered either, least of all in clear."""
    plan = wanted()
    last = failing("partner.example", "NotTrusted").last_tls
    after = with_members(running(plan, destinations=[DestinationState(resource="partner", last_tls=last)]))
    assert verdict(after, "DestinationControl", "partner", "Delivering") == ("Unknown", "NoTraffic")
    said = condition(after, "DestinationControl", "partner", "Delivering").message
    assert said == "no mail waits; the last, for partner.example, was not delivered: asked for x, shown y"


def test_a_last_result_that_says_the_same_is_written_at_most_every_five_minutes():
    plan = wanted()
    before, _ = place()

    def last(minutes: float) -> LastTLS:
        return LastTLS(
            time=NOW + timedelta(minutes=minutes),
            member="default-0",
            domain="partner.example",
            result="Delivered",
        )

    def status_after(minutes: float) -> Any:
        control = next(one for one in PARTS if one.kind == "DestinationControl")
        present = control.model_copy(
            update={"status": control.status.model_copy(update={"last_tls": last(0)})}
        )
        parts = [present if one.kind == "DestinationControl" else one for one in PARTS]
        state = [DestinationState(resource="partner", last_tls=last(minutes))]
        member = running(plan, destinations=state)
        moment = NOW + timedelta(minutes=minutes)
        after = decide(world(*parts, secrets=before.secrets, members={"default": (member,)}), moment)
        return after.statuses["DestinationControl", "partner"]

    assert status_after(1).last_tls == last(0)
    assert status_after(6).last_tls == last(6)


def test_the_system_list_is_kept_in_every_namespace_with_a_gateway():
    assert [one.name for one in decide(world(gateway()), NOW).ensures] == ["system"]
    assert decide(world(), NOW).ensures == ()
    assert decide(world(gateway(), ca_list("system", type="System")), NOW).ensures == ()


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param(listener(gatewayRef={"name": "gone"}), id="listener"),
        pytest.param(destination("d", "a.example", gatewayRef={"name": "gone"}), id="destination"),
        pytest.param(certificate(gatewayRef={"name": "gone"}), id="certificate"),
    ],
)
def test_a_resource_of_a_gateway_that_is_not_there_says_so(resource: Any):
    plan = decide(world(gateway(), resource), NOW)
    assert verdict(plan, resource.kind, resource.name, "Accepted") == ("False", "GatewayNotFound")
    assert verdict(plan, resource.kind, resource.name, "Programmed") == ("False", "GatewayNotFound")


def test_the_internal_ca_is_made_once_and_never_over_something_unreadable():
    assert [one.secret for one in decide(world(gateway()), NOW).internal] == ["letterlock-internal-default"]
    for present in (Keep("letterlock-internal-default", {}, ours=True), Unreadable("forbidden")):
        assert decide(world(gateway(), secrets={"letterlock-internal-default": present}), NOW).internal == ()


def test_a_condition_that_stays_as_it_is_makes_no_event():
    before, plan = place()
    again = [one.model_copy(update={"status": plan.statuses[one.kind, one.name]}) for one in PARTS]
    assert decide(world(*again, secrets=before.secrets), NOW).events == ()


def test_the_pod_template_does_not_change_with_configuration():
    before, plan = place()
    bare = decide(world(gateway()), NOW)

    def stateful_set(made: Any, of: Any) -> Any:
        (found,) = [one for one in objects(of, made, Pods("image:1")) if one["kind"] == "StatefulSet"]
        return found

    assert stateful_set(plan, before) == stateful_set(bare, world(gateway()))


def test_a_service_maps_a_low_port_to_one_that_a_pod_may_bind():
    given = world(gateway(), listener(port=25))
    made = objects(given, decide(given, NOW), Pods("image:1"))
    (service,) = [one for one in made if one["metadata"]["name"] == "letterlock-public"]
    assert service["spec"]["ports"][0]["port"] == 25
    assert service["spec"]["ports"][0]["targetPort"] == 10025
    assert all(one["metadata"]["ownerReferences"] for one in made)


@pytest.mark.parametrize(
    ("foreign", "kind", "name"),
    [
        pytest.param("Service/letterlock-public", "Listener", "public", id="a Service of a listener's name"),
        pytest.param(
            "StatefulSet/default", "MailGateway", "default", id="a StatefulSet of the gateway's name"
        ),
    ],
)
def test_an_object_of_somebody_else_is_named_and_left_alone(foreign: str, kind: str, name: str):
    plan = decide(world(gateway(), listener(), foreign=frozenset({foreign})), NOW)
    assert verdict(plan, kind, name, "Accepted") == ("False", "NameTaken")
    assert verdict(plan, kind, name, "Programmed") == ("False", "NameTaken")


def test_who_keeps_changing_an_object_of_ours_is_named_until_it_is_put_back_again():
    until = NOW + timedelta(minutes=7)
    conflict = FieldConflict("Service/letterlock-public", "default", "meddler", until)
    plan = decide(world(gateway(), gateway("other"), listener(), conflicts=(conflict,)), NOW)
    said = condition(plan, "MailGateway", "default", "FieldConflict")
    assert (said.status, said.reason) == ("True", "FieldConflict")
    assert said.message.startswith(
        "meddler keeps changing Service/letterlock-public, which is the operator's"
    )
    assert plan.wake == until
    others = plan.statuses["MailGateway", "other"].conditions
    assert not [one for one in others if one.type == "FieldConflict"]
    (told,) = [one for one in plan.events if one.reason == "FieldConflict"]
    assert (told.type, told.message) == ("Warning", said.message)


@pytest.mark.parametrize(
    ("versions", "older"),
    [
        pytest.param(("1.9.0", "1.10.0"), [True, False], id="by number, not by letter"),
        pytest.param(("1.10.0", "1.10.0"), [False, False], id="all the same"),
        pytest.param(("", "1.0"), [True, False], id="one that is too old to say"),
        pytest.param(("2.0.dev1", "1.9"), [False, True], id="what is not a release yet"),
    ],
)
def test_a_member_of_an_older_release_shows_as_such(versions: tuple[str, str], older: list[bool]):
    members = tuple(
        Member(f"default-{number}", True, MemberState(member=f"default-{number}", version=version))
        for number, version in enumerate(versions)
    )
    plan = decide(world(gateway(replicas=2), members={"default": members}), NOW)
    status = plan.statuses["MailGateway", "default"]
    assert isinstance(status, MailGatewayStatus)
    said = status.members or []
    assert [any("older than" in text for text in one.problems) for one in said] == older
    assert [one.version for one in said] == [version or None for version in versions]


def test_who_is_not_ready_is_told_with_the_reason_and_how_often_it_was_started_again():
    members = (
        Member("default-0", ready=True, state=MemberState(member="default-0"), restarts=2),
        Member("default-1", ready=False, state=None, problem="it has no address yet", halted="it waits"),
        Member("default-2", ready=False, state=None, problem="no answer within 2 s"),
        Member("default-3", ready=False, state=MemberState(member="default-3")),
        Member("default-4", ready=False, state=None),
    )
    plan = decide(world(gateway(replicas=5), members={"default": members}), NOW)
    assert condition(plan, "MailGateway", "default", "Ready").message == (
        "1 of 5 members are ready: default-1 is not (it waits), default-2 is not (no answer within 2 s),"
        " default-3 is not and 1 more"
    )
    status = plan.statuses["MailGateway", "default"]
    assert isinstance(status, MailGatewayStatus)
    assert [one.restarts for one in status.members or []] == [2, None, None, None, None]
    assert (status.members or [])[1].problems == ["it waits", "it has no address yet"]


def test_several_members_that_do_not_answer_are_all_named():
    plan = wanted()
    silent = [
        Member(f"default-{number}", ready=True, state=None, problem="connection refused") for number in (1, 2)
    ]
    after = with_members(running(plan), *silent)
    message = condition(after, "Listener", "public", "Programmed").message
    assert message == "default-1, default-2 do not answer: connection refused"


def test_a_listeners_service_goes_with_the_listener():
    given = world(gateway(), listener())
    made = objects(given, decide(given, NOW), Pods("image:1"))
    (service,) = [one for one in made if one["metadata"]["name"] == "letterlock-public"]
    assert service["metadata"]["ownerReferences"][0]["kind"] == "Listener"


def test_every_domain_that_begins_to_fail_is_an_event_of_its_own_and_only_once():
    plan = wanted()
    since = [NOW, NOW + timedelta(seconds=1)]
    domains = ["a.partner.example", "b.partner.example"]
    state = failing(domains[0], "NotTrusted")
    both = [
        FailingDomain(domain=domain, reason="NotTrusted", since=at)
        for domain, at in zip(domains, since, strict=True)
    ]
    first = with_members(running(plan, destinations=[state]))
    told = [one for one in first.events if one.reason == "NotTrusted"]
    assert [(one.kind, one.type) for one in told] == [("DestinationControl", "Warning")]
    control = next(one for one in PARTS if one.kind == "DestinationControl")
    status = first.statuses["DestinationControl", "partner"]
    seen = control.model_copy(update={"status": status})
    others = [one for one in PARTS if one is not control]
    more = state.model_copy(update={"failing": both})
    members = {"default": (running(plan, destinations=[more]),)}
    before, _ = place()
    second = decide(world(*others, seen, secrets=before.secrets, members=members), NOW)
    told = [one for one in second.events if one.reason == "NotTrusted"]
    assert [one.message.split(" waits")[0] for one in told] == ["mail for b.partner.example"]
    status = second.statuses["DestinationControl", "partner"]
    again = control.model_copy(update={"status": status})
    third = decide(world(*others, again, secrets=before.secrets, members=members), NOW)
    assert [one for one in third.events if one.reason == "NotTrusted"] == []


def test_who_gets_alerts_reaches_the_members():
    recipients = [{"address": "ops@example.com", "severities": ["Warning"]}]
    _, plan = settled(
        gateway(
            delivery={"tlsAlert": "Enabled"}, alerts={"from": "mx@example.com", "recipients": recipients}
        ),
        *PARTS[1:],
    )
    assert verdict(plan, "MailGateway", "default", "Accepted") == ("True", "Accepted")
    snapshot = plan.mounts["default"].snapshot
    assert snapshot.delivery.tls_alert
    assert snapshot.alerts.sender == "mx@example.com"
    [one] = snapshot.alerts.recipients
    assert (one.address, one.severities, one.types) == (
        "ops@example.com",
        ["Warning"],
        ["System", "Delivery"],
    )
