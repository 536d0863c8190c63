"""Decisions about DestinationControls: inheritance never weakens, conflicts cost only the domain in question."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterlock_api.snapshot import Destination
from letterlock_operator import names
from letterlock_operator.decide import decide, domains
from letterlock_operator.plan import Plan
from letterlock_operator.world import InvalidResource, Keep
from tests.decide.builders import NOW, ca_list, ca_pem, destination, gateway, verdict, world

# Stronger to the right; what a mode promises, those behind it promise too.
STRENGTH = ["No", "Preferred", "PreferredVerify", "Required", "RequiredVerifyHostedDomains", "RequiredVerify"]


def entry(plan: Plan, domain: str) -> Destination:
    """What the members would use for the domain."""
    found = {one: made for made in plan.mounts["default"].snapshot.destinations for one in made.domains}
    for candidate in [domain, *domains.less_specific(domain)]:
        if candidate in found:
            return found[candidate]
    raise AssertionError(f"nothing speaks for {domain}")


def test_without_any_entry_tls_is_preferred():
    assert entry(decide(world(gateway()), NOW), "a.example").tls_mode == "Preferred"


def test_what_an_entry_leaves_out_comes_from_the_next_less_specific_one():
    plan = decide(
        world(
            gateway(),
            destination("all", "*", tls={"mode": "Preferred", "ciphers": "HIGH"}, limits={"connections": 9}),
            destination("below", ".example", tls={"mode": "RequiredVerify", "minVersion": "TLSv1.3"}),
            destination("one", "a.example", routes=[{"host": "MX.a.example", "port": 26}]),
        ),
        NOW,
    )
    found = entry(plan, "a.example")
    assert (found.tls_mode, found.min_version, found.ciphers, found.connections) == (
        "RequiredVerify",
        "TLSv1.3",
        "HIGH",
        9,
    )
    assert [(one.host, one.port) for one in found.routes] == [("mx.a.example", 26)]
    assert entry(plan, "b.example").routes == []


def test_routing_mx_takes_the_inherited_routes_away():
    plan = decide(
        world(
            gateway(),
            destination("all", "*", tls={"mode": "Preferred"}, routes=[{"host": "smart.example"}]),
            destination("one", "a.example", routing="MX"),
        ),
        NOW,
    )
    assert entry(plan, "a.example").routes == []
    assert entry(plan, "b.example").routes[0].host == "smart.example"


@pytest.mark.parametrize(
    ("mode", "version"), [("Preferred", "TLSv1"), ("Required", "TLSv1"), ("RequiredVerify", "TLSv1.2")]
)
def test_verified_modes_want_a_newer_protocol(mode: str, version: str):
    plan = decide(world(gateway(), destination("one", "a.example", tls={"mode": mode})), NOW)
    assert entry(plan, "a.example").min_version == version


def test_the_older_resource_keeps_a_domain_and_the_other_loses_only_that():
    plan = decide(
        world(
            gateway(),
            destination("old", "a.example", age=9, tls={"mode": "RequiredVerify"}),
            destination("new", "a.example", "b.example", age=1, tls={"mode": "No"}),
        ),
        NOW,
    )
    assert entry(plan, "a.example").resource == "old"
    assert entry(plan, "b.example").resource == "new"
    assert verdict(plan, "DestinationControl", "new", "Accepted") == ("False", "DomainConflict")
    assert verdict(plan, "DestinationControl", "old", "Accepted")[0] == "True"


def test_domains_are_compared_as_dns_compares_them():
    plan = decide(
        world(
            gateway(), destination("a", "BÜCHER.example", age=2), destination("b", "XN--bcher-kva.example")
        ),
        NOW,
    )
    assert verdict(plan, "DestinationControl", "b", "Accepted") == ("False", "DomainConflict")
    assert entry(plan, "xn--bcher-kva.example").resource == "a"


def test_a_ca_list_that_is_gone_or_off_vouches_for_nobody_instead_of_all():
    control = destination("one", "a.example", tls={"mode": "RequiredVerify", "caListRefs": [{"name": "own"}]})
    gone = decide(world(gateway(), control), NOW)
    off = decide(world(gateway(), control, ca_list("own", certificates=ca_pem(), enabled=False)), NOW)
    on = decide(world(gateway(), control, ca_list("own", certificates=ca_pem())), NOW)
    assert verdict(gone, "DestinationControl", "one", "Accepted") == ("False", "CAListNotFound")
    for plan in (gone, off):
        found = entry(plan, "a.example")
        assert (found.tls_mode, found.ca_lists, found.restricts_ca_lists) == ("RequiredVerify", [], True)
    assert entry(on, "a.example").ca_lists == ["own"]


def test_a_control_that_became_invalid_does_not_weaken_its_domain():
    good = decide(world(gateway(), destination("one", "a.example", tls={"mode": "RequiredVerify"})), NOW)
    name = names.snapshot_config_map("default")
    place = {name: Keep(name, {"snapshot.json": good.mounts["default"].snapshot.encode()}, ours=True)}
    wrong = InvalidResource("DestinationControl", "one", 4, "spec.tls.mode: unknown")
    plan = decide(world(gateway(), invalid=(wrong,), config_maps=place), NOW)
    assert entry(plan, "a.example").tls_mode == "RequiredVerify"
    assert entry(plan, "b.example").tls_mode == "Preferred"


MODES = st.sampled_from(["Default", *STRENGTH])
LABEL = st.sampled_from(["a", "b"])


@given(
    top=st.sampled_from(["No", "Preferred", "Required", "PreferredVerify", "RequiredVerify"]),
    middle=MODES,
    own=MODES,
    order=st.permutations([0, 1, 2]),
)
def test_a_merged_policy_is_never_weaker_than_its_entry_says(
    top: str, middle: str, own: str, order: list[int]
):
    controls: list[Any] = [
        destination("top", "*", tls={"mode": top}),
        destination("middle", ".example", tls={"mode": middle}),
        destination("own", "a.example", tls={"mode": own}),
    ]
    found = entry(decide(world(gateway(), *(controls[one] for one in order)), NOW), "a.example")
    wanted = next(mode for mode in (own, middle, top) if mode != "Default")
    assert found.tls_mode == wanted


def test_two_thousand_controls_are_decided_without_comparing_each_with_each():
    controls = [
        destination(f"d{number}", f"d{number}.example", tls={"mode": "Required"}) for number in range(2000)
    ]
    plan = decide(world(gateway(), *controls), NOW)
    assert len(plan.mounts["default"].snapshot.destinations) == 2001
