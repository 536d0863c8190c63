"""Decisions about DestinationControls: inheritance never weakens, conflicts cost only the domain in question."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letterlock_api import credentials
from letterlock_api.credentials import Credentials
from letterlock_api.snapshot import Destination
from letterlock_operator import names
from letterlock_operator.decide import decide, domains
from letterlock_operator.plan import Plan
from letterlock_operator.world import InvalidResource, Keep, Unreadable
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


@pytest.mark.parametrize(
    "below", [{}, {"mode": "Preferred", "minVersion": "TLSv1"}], ids=["inherited", "less is said"]
)
def test_ciphers_that_do_not_exist_cost_their_entry_tls_1_2_and_nobody_else_anything(below: dict[str, Any]):
    """Members would refuse the whole set for them: a slip in one entry would hold up every other change."""
    wrong = destination("wrong", ".example.com", tls={"mode": "RequiredVerify", "ciphers": "ECHDE"})
    under = destination("under", "a.example.com", tls=below)
    other = destination("other", "b.example", tls={"mode": "Required", "ciphers": "ECDHE+AESGCM"})
    plan = decide(world(gateway(), wrong, under, other), NOW)
    for name in ("wrong", "under"):
        assert verdict(plan, "DestinationControl", name, "Accepted") == ("False", "Invalid")
    assert verdict(plan, "DestinationControl", "other", "Accepted") == ("True", "Accepted")
    for domain in ("x.example.com", "a.example.com"):
        made = entry(plan, domain)
        assert (made.min_version, made.min_version_set, made.ciphers) == ("TLSv1.3", True, None)
    assert entry(plan, "x.example.com").tls_mode == "RequiredVerify"
    assert entry(plan, "b.example").ciphers == "ECDHE+AESGCM"


# Signing in at a smart host.

SIGN_IN = {"host": "smart.example", "auth": {"secretRef": {"name": "login"}}}
LOGIN = Keep("login", {"username": b"us", "password": b"pass-word\n"})


def internal(key: bytes = b"a key that only readers of Secrets know") -> dict[str, Keep]:
    name = names.internal_secret("default")
    return {name: Keep(name, {"ca.key": key}, ours=True, owner="MailGateway/default")}


def signing_in(secrets: dict[str, Keep], *more: Any, **spec: Any) -> Plan:
    fields: dict[str, Any] = {"tls": {"mode": "RequiredVerify"}, "routes": [SIGN_IN]} | spec
    return decide(world(gateway(), destination("one", "a.example", **fields), *more, secrets=secrets), NOW)


def test_credentials_travel_in_a_key_file_and_nowhere_else():
    plan = signing_in({**internal(), "login": LOGIN})
    assert verdict(plan, "DestinationControl", "one", "Accepted")[0] == "True"
    mount = plan.mounts["default"]
    (route,) = entry(plan, "a.example").routes
    assert route.auth_file is not None
    assert credentials.decode(mount.tls_files[route.auth_file]) == Credentials("us", "pass-word")
    assert route.auth_file in mount.snapshot.files
    for text in (mount.snapshot.encode(), *mount.ca_files.values(), repr(plan.statuses).encode()):
        assert b"pass-word" not in text


def test_the_name_of_a_credentials_file_tells_nothing_to_who_cannot_read_secrets():
    files = [
        entry(signing_in({**internal(key), "login": LOGIN}), "a.example").routes[0].auth_file
        for key in (b"one", b"other", b"other")
    ]
    assert files[0] != files[1] == files[2]


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        (None, "SecretNotFound"),
        (Keep("login", {"username": b"us"}), "Invalid"),
        (Keep("login", {"username": b"us", "password": b""}), "Invalid"),
        (Keep("login", {"username": b"us", "password": b"a\r\nQUIT"}), "Invalid"),
        (Keep("login", {"username": b"us", "password": b"\xff"}), "Invalid"),
        (Unreadable("its data is not base64"), "Invalid"),
    ],
    ids=["not there", "no password", "empty", "with a line break", "not UTF-8", "unreadable"],
)
def test_without_usable_credentials_mail_is_held_back(login: Any, reason: str):
    below = destination("below", "b.a.example")
    inherits = destination("inherits", ".a.example", routing="Inherit")
    plan = signing_in({**internal(), **({"login": login} if login else {})}, below, inherits)
    assert verdict(plan, "DestinationControl", "one", "Accepted") == ("False", reason)
    found = entry(plan, "a.example")
    assert (found.tls_mode, found.ca_lists, found.restricts_ca_lists) == ("RequiredVerify", [], True)
    assert found.routes[0].auth_file is None
    assert "QUIT" not in repr(plan.statuses)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("No", "RequiredVerifyHostedDomains"),
        ("Preferred", "RequiredVerifyHostedDomains"),
        ("Required", "RequiredVerifyHostedDomains"),
        ("PreferredVerify", "RequiredVerify"),
        ("RequiredVerify", "RequiredVerify"),
        ("RequiredVerifyHostedDomains", "RequiredVerifyHostedDomains"),
    ],
)
def test_who_inherits_a_route_that_signs_in_insists_on_verified_tls(mode: str, wanted: str):
    above = destination("above", ".example", tls={"mode": "RequiredVerify"}, routes=[SIGN_IN])
    own = destination("own", "b.example", tls={"mode": mode})
    plan = decide(world(gateway(), above, own, secrets={**internal(), "login": LOGIN}), NOW)
    found = entry(plan, "b.example")
    assert found.tls_mode == wanted
    assert found.min_version == "TLSv1.2"


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


@st.composite
def specs(draw: st.DrawFn, *, top: bool = False) -> dict[str, Any]:
    """What an entry may say, each field left out as often as not."""

    def maybe(key: str, values: st.SearchStrategy[Any]) -> dict[str, Any]:
        return {key: draw(values)} if draw(st.booleans()) else {}

    mode = draw(st.sampled_from(STRENGTH[:4] + STRENGTH[5:]) if top else MODES)
    tls = {
        "mode": mode,
        **maybe("names", st.lists(st.sampled_from(["x.example", "Y.example"]), min_size=1, unique=True)),
        **maybe("caListRefs", st.sampled_from([[{"name": "own"}], [{"name": "off"}], [{"name": "gone"}]])),
        **maybe("minVersion", st.sampled_from(["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"])),
        **maybe("ciphers", st.sampled_from(["HIGH", "ECDHE"])),
    }
    routing = draw(st.sampled_from(["", "MX", "Inherit", "plain", "signing in"]))
    if routing in ("MX", "Inherit"):
        return {"tls": tls, "routing": routing}
    if routing == "signing in" and "Verify" in mode:
        return {"tls": tls, "routes": [SIGN_IN, {"host": "plain.example", "priority": 5}]}
    return {"tls": tls, "routes": [{"host": "plain.example"}]} if routing else {"tls": tls}


def said(chain: list[dict[str, Any]], field: str) -> Any:
    return next((one["tls"][field] for one in chain if one["tls"].get(field)), None)


@given(
    own=specs(), middle=specs(), top=specs(top=True), login=st.booleans(), order=st.permutations([0, 1, 2])
)
@settings(max_examples=300, deadline=None)
def test_a_merged_policy_is_never_weaker_than_its_entry_says_in_any_field(
    own: dict[str, Any], middle: dict[str, Any], top: dict[str, Any], order: list[int], *, login: bool
):
    chain = [own, middle, top]
    controls: list[Any] = [
        destination("own", "a.example", **own),
        destination("middle", ".example", **middle),
        destination("top", "*", **top),
    ]
    lists = [ca_list("own", certificates=ca_pem()), ca_list("off", certificates=ca_pem(), enabled=False)]
    secrets = {**internal(), **({"login": LOGIN} if login else {})}
    plan = decide(world(gateway(), *(controls[one] for one in order), *lists, secrets=secrets), NOW)
    found = entry(plan, "a.example")
    mode = next(one["tls"]["mode"] for one in chain if one["tls"]["mode"] != "Default")
    none: dict[str, Any] = {}
    routing = next((one for one in chain if "routes" in one or one.get("routing") == "MX"), none)
    signs_in = any("auth" in one for one in routing.get("routes", []))
    assert STRENGTH.index(found.tls_mode) >= STRENGTH.index(mode)
    assert signs_in or found.tls_mode == mode
    if signs_in:
        assert found.tls_mode in {"RequiredVerify", "RequiredVerifyHostedDomains"}
        # Without credentials nothing is trusted, so nothing is sent.
        assert login or (found.restricts_ca_lists and not found.ca_lists)
    assert [one.host for one in found.routes] == [one["host"] for one in routing.get("routes", [])]
    assert [one.auth_file is not None for one in found.routes] == [
        login and "auth" in one for one in routing.get("routes", [])
    ]
    assert found.names == sorted(str(one).lower() for one in said(chain, "names") or ())
    if (references := said(chain, "caListRefs")) is not None:
        assert found.restricts_ca_lists
        assert set(found.ca_lists) <= {one["name"] for one in references} & {"own"}
    version = said(chain, "minVersion")
    assert found.min_version == (version or ("TLSv1.2" if "Verify" in found.tls_mode else "TLSv1"))
    assert found.ciphers == said(chain, "ciphers")


def test_two_thousand_controls_are_decided_without_comparing_each_with_each():
    controls = [
        destination(f"d{number}", f"d{number}.example", tls={"mode": "Required"}) for number in range(2000)
    ]
    plan = decide(world(gateway(), *controls), NOW)
    assert len(plan.mounts["default"].snapshot.destinations) == 2001
