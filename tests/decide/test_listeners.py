"""Decisions about Listeners: never an open relay by omission, the last good state keeps running, warnings are loud."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from letterlock_api.snapshot import SnapshotListener
from letterlock_operator import names
from letterlock_operator.decide import decide, policies
from letterlock_operator.world import InvalidResource, Keep
from tests.decide.builders import (
    NOW,
    ca_list,
    ca_pem,
    certificate,
    condition,
    gateway,
    listener,
    settled,
    tls_secret,
    verdict,
    world,
)

TLS: dict[str, Any] = {"defaultPolicy": {"tls": {"mode": "Preferred"}}}


def opened(plan: Any, name: str = "public") -> SnapshotListener:
    found = {one.name: one for one in plan.mounts["default"].snapshot.listeners}
    return found[name]


@pytest.mark.parametrize(
    ("kind", "groups", "behavior"),
    list(product(["Public", "Private"], [[], ["10.0.0.0/8"]], [None, "Accept", "Reject"])),
)
def test_nobody_relays_by_omission(kind: str, groups: list[str], behavior: str | None):
    spec: dict[str, Any] = {"type": kind}
    if groups:
        spec["mailFlowPolicies"] = [{"name": "inside"}]
        spec["senderGroups"] = [{"name": "inside", "senders": groups, "policy": "inside"}]
    if behavior:
        spec["defaultPolicy"] = {"behavior": behavior}
    plan = decide(world(gateway(), listener(**spec)), NOW)
    made = opened(plan)
    last = made.groups[-1]
    assert last.senders == ["ALL"], "every client must match a row"
    by_name = {one.name: one for one in made.policies}
    assert by_name[last.policy].behavior != "Relay"
    relaying = [row for row in made.groups if by_name[row.policy].behavior == "Relay"]
    assert all(kind == "Private" and row.senders == ["10.0.0.0/8"] for row in relaying)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"defaultPolicy": {"behavior": "Relay"}}, id="the default policy relays"),
        pytest.param(
            {
                "mailFlowPolicies": [{"name": "out", "behavior": "Relay"}],
                "senderGroups": [{"name": "all", "senders": ["ALL"], "policy": "out"}],
            },
            id="a group of all relays",
        ),
        *(
            pytest.param(
                {
                    "mailFlowPolicies": [{"name": "out", "behavior": "Relay"}],
                    "senderGroups": [{"name": "net", "senders": senders, "policy": "out"}],
                },
                id=f"everybody as {' and '.join(senders[:2])}",
            )
            for senders in (
                ["0.0.0.0-255.255.255.255"],
                ["0.0.0.0/1", "128.0.0.0/1"],
                ["1.0.0.0-254.0.0.0"],
                ["2000::/3"],
                ["::/0"],
                [f"{first}." for first in range(10, 200)],
            )
        ),
        pytest.param(
            {
                "mailFlowPolicies": [{"name": "out", "behavior": "Relay"}],
                "senderGroups": [
                    {"name": "lower", "senders": ["0.0.0.0/2"], "policy": "out"},
                    {"name": "upper", "senders": ["128.0.0.0/2"], "policy": "out"},
                ],
            },
            id="everybody in two groups",
        ),
        pytest.param(
            {
                "mailFlowPolicies": [{"name": "out", "behavior": "Relay"}],
                "senderGroups": [{"name": "net", "senders": ["0.0.0.0/0"], "policy": "out"}],
            },
            id="the whole Internet written as a network",
        ),
        pytest.param(
            {
                "mailFlowPolicies": [
                    {
                        "name": "out",
                        "behavior": "Relay",
                        "tls": {"mode": "Required", "clientCertificate": "Required"},
                    }
                ],
                "senderGroups": [{"name": "all", "senders": ["ALL"], "policy": "out"}],
            },
            id="by any client certificate of the web",
        ),
    ],
)
def test_relaying_for_everybody_is_refused_on_public_listeners(spec: dict[str, Any]):
    plan = decide(world(gateway(), listener(**spec)), NOW)
    assert verdict(plan, "Listener", "public", "Accepted") == ("False", "OpenRelay")
    assert plan.mounts["default"].snapshot.listeners == []


def test_a_private_listener_that_relays_for_everybody_is_warned_of():
    spec: dict[str, Any] = {
        "type": "Private",
        "mailFlowPolicies": [{"name": "out"}],
        "senderGroups": [{"name": "all", "senders": ["ALL"], "policy": "out"}],
    }
    plan = decide(world(gateway(), listener(**spec)), NOW)
    assert verdict(plan, "Listener", "public", "Accepted")[0] == "True"
    assert verdict(plan, "Listener", "public", "OpenRelay") == ("True", "OpenRelay")


def test_policies_fall_back_field_by_field():
    spec = listener(
        defaultPolicy={
            "tls": {"mode": "Required", "minVersion": "TLSv1.3"},
            "maxMessageSize": "1Mi",
            "banner": "hi",
        },
        mailFlowPolicies=[{"name": "one", "tls": {"mode": "Preferred"}, "maxRecipientsPerMessage": 7}],
    ).spec
    one = next(policy for policy in policies.merge(spec) if policy.name == "one")
    assert (one.tls_mode, one.min_version, one.max_message_size, one.banner) == (
        "Preferred",
        "TLSv1.3",
        1 << 20,
        "hi",
    )
    assert (one.max_recipients_per_message, one.max_messages_per_connection, one.behavior) == (
        7,
        100,
        "Accept",
    )


def test_tls_is_off_by_default_on_both_types():
    for kind in ("Public", "Private"):
        plan = decide(world(gateway(), listener(type=kind)), NOW)
        assert plan.issues == (), "no certificate is needed"
        assert {one.tls_mode for one in opened(plan).policies} == {"No"}


def test_without_a_certificate_the_demo_one_is_made_and_said_aloud():
    first = decide(world(gateway(), listener(**TLS)), NOW)
    assert [one.secret for one in first.issues] == ["letterlock-demo-default"]
    assert verdict(first, "Listener", "public", "ResolvedRefs") == ("False", "CertificateNotReady")
    _, plan = settled(gateway(), listener(**TLS))
    (served,) = opened(plan).certificates
    assert served.demo
    assert verdict(plan, "Listener", "public", "DemoCertificate")[0] == "True"
    assert plan.statuses["Listener", "public"].model_dump()["certificate"] == "(demo)"
    assert ("Warning", "DemoCertificate") in {(one.type, one.reason) for one in plan.events}


def test_two_listeners_on_one_port_the_older_keeps_it():
    old, new = listener("old", age=9), listener("new", age=1, address="127.0.0.1")
    plan = decide(world(gateway(), old, new), NOW)
    assert verdict(plan, "Listener", "new", "Accepted") == ("False", "PortConflict")
    assert [one.name for one in plan.mounts["default"].snapshot.listeners] == ["old"]


def test_two_addresses_may_share_a_port():
    plan = decide(
        world(gateway(), listener("a", address="127.0.0.1"), listener("b", address="127.0.0.2")), NOW
    )
    assert len(plan.mounts["default"].snapshot.listeners) == 2


def test_an_unknown_policy_is_named():
    spec: dict[str, Any] = {"senderGroups": [{"name": "g", "senders": ["ALL"], "policy": "gone"}]}
    plan = decide(world(gateway(), listener(**spec)), NOW)
    assert verdict(plan, "Listener", "public", "Accepted") == ("False", "UnknownPolicy")


@pytest.mark.parametrize(
    ("spec", "warned"),
    [
        ({"defaultPolicy": {"tls": {"mode": "Preferred", "clientCertificate": "Required"}}}, True),
        ({"defaultPolicy": {"tls": {"mode": "Required", "clientCertificate": "Required"}}}, False),
        ({"defaultPolicy": {"tls": {"mode": "Preferred", "clientCertificate": "Optional"}}}, False),
        (
            {
                "protocol": "SMTPS",
                "defaultPolicy": {"tls": {"mode": "Preferred", "clientCertificate": "Required"}},
            },
            False,
        ),
        (
            {
                "defaultPolicy": {"tls": {"mode": "Preferred"}},
                "mailFlowPolicies": [
                    {"name": "partner", "behavior": "Relay", "tls": {"clientCertificate": "Required"}},
                ],
                "senderGroups": [{"name": "g", "senders": ["192.0.2.0/24"], "policy": "partner"}],
            },
            True,
        ),
    ],
    ids=["Preferred", "Required", "Optional", "SMTPS", "a policy that falls back"],
)
def test_a_required_certificate_that_clear_text_avoids_is_a_warning(spec: dict[str, Any], warned: bool):
    _, plan = settled(gateway(), listener(**spec))
    types = {one.type for one in plan.statuses["Listener", "public"].conditions}
    assert ("ClientCertificateAvoidable" in types) is warned


def test_tls_required_of_all_is_a_warning_on_public_listeners_only():
    required: dict[str, Any] = {"defaultPolicy": {"tls": {"mode": "Required"}}}
    _, plan = settled(
        gateway(), listener(**required), listener("inside", type="Private", port=2526, **required)
    )
    assert verdict(plan, "Listener", "public", "TLSRequiredOfAll")[0] == "True"
    inside = {one.type for one in plan.statuses["Listener", "inside"].conditions}
    assert "TLSRequiredOfAll" not in inside


def mounted(plan: Any) -> dict[str, Any]:
    """What is in place after the plan was carried out."""
    mount = plan.mounts["default"]
    snapshot = Keep(
        names.snapshot_config_map("default"), {"snapshot.json": mount.snapshot.encode()}, ours=True
    )
    keys = Keep(names.key_shard("default", 0), dict(mount.tls_files), ours=True)
    return {"config_maps": {snapshot.name: snapshot}, "keys": keys}


def test_a_deleted_certificate_is_served_on_and_named():
    resource = listener(certificateRefs=[{"name": "mx"}], **TLS)
    _, good = settled(gateway(), certificate(), resource)
    place = mounted(good)
    plan = decide(
        world(
            gateway(), resource, config_maps=place["config_maps"], secrets={place["keys"].name: place["keys"]}
        ),
        NOW,
    )
    assert verdict(plan, "Listener", "public", "ResolvedRefs") == ("False", "CertificateNotFound")
    assert verdict(plan, "Listener", "public", "Programmed") == ("False", "CertificateNotFound")
    assert opened(plan).certificates == opened(good).certificates
    assert plan.mounts["default"].tls_files == good.mounts["default"].tls_files


@pytest.mark.parametrize("broken", [None, b"-----BEGIN CERTIFICATE-----\n"], ids=["is gone", "is broken"])
def test_a_member_whose_secret_goes_keeps_its_pair_and_the_others_go_on(broken: bytes | None):
    """Without any, the member would refuse everything else that changes."""
    resources = (
        gateway(replicas=2),
        certificate(level="Machine", dnsNames=[], secretRef={"name": "tls-{member}"}),
        listener(certificateRefs=[{"name": "mx"}], **TLS),
    )
    theirs = {f"tls-default-{n}": tls_secret(f"tls-default-{n}", f"mx{n}.example.com") for n in range(2)}
    _, good = settled(*resources, secrets=theirs)
    place = mounted(good)
    del theirs["tls-default-1"]
    if broken is not None:
        whole = tls_secret("tls-default-1", "mx1.example.com")
        theirs["tls-default-1"] = replace(whole, data={**whole.data, "tls.crt": broken})
    theirs["tls-default-0"] = tls_secret("tls-default-0", "new0.example.com")
    secrets = {**theirs, place["keys"].name: place["keys"]}
    plan = decide(world(*resources, secrets=secrets, config_maps=place["config_maps"]), NOW)
    (before,), (after,) = opened(good).certificates, opened(plan).certificates
    assert after.files["default-1"] == before.files["default-1"]
    assert after.files["default-0"] != before.files["default-0"]
    assert set(after.files.values()) <= plan.mounts["default"].tls_files.keys()
    reason = "SecretNotFound" if broken is None else "InvalidPEM"
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", reason)
    assert verdict(plan, "Listener", "public", "ResolvedRefs") == ("False", "CertificateNotReady")


def test_a_listener_whose_manifest_became_invalid_keeps_what_it_had():
    _, good = settled(gateway(), listener())
    place = mounted(good)
    wrong = InvalidResource("Listener", "public", 4, "spec.port: too big")
    plan = decide(world(gateway(), invalid=(wrong,), config_maps=place["config_maps"]), NOW)
    assert opened(plan) == opened(good)
    assert verdict(plan, "Listener", "public", "Accepted") == ("False", "Invalid")


SHARED: dict[str, Any] = {"service": {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}}
BALANCED: dict[str, Any] = {"proxyProtocol": {"from": ["10.0.0.0/8"]}}
HIDDEN = ("True", "SourceAddressHidden")


@pytest.mark.parametrize(
    ("spec", "accepted", "warned"),
    [
        ({**SHARED}, "True", True),
        ({"service": {"type": "NodePort", "externalTrafficPolicy": "Cluster"}}, "True", True),
        ({"service": {"type": "LoadBalancer"}}, "True", False),
        ({"service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}}, "True", False),
        ({"service": {"externalTrafficPolicy": "Cluster"}}, "True", False),
        ({**SHARED, **BALANCED}, "True", False),
        ({"type": "Private", **SHARED}, "False", False),
        ({"type": "Private", **SHARED, **BALANCED}, "True", False),
        ({"type": "Private", "service": {"type": "LoadBalancer"}}, "True", False),
    ],
    ids=[
        "a load balancer in front of a public listener",
        "node ports in front of a public listener",
        "Local by default",
        "Local",
        "an address of the cluster alone: the policy says nothing of it",
        "the PROXY protocol shows the client",
        "a private listener, which would not know its senders",
        "a private listener with the PROXY protocol",
        "a private listener with Local",
    ],
)
def test_client_addresses_that_are_hidden_are_told_or_refused(
    spec: dict[str, Any], accepted: str, warned: bool
):
    plan = decide(world(gateway(), listener(**spec)), NOW)
    assert verdict(plan, "Listener", "public", "Accepted")[0] == accepted
    types = {one.type for one in plan.statuses["Listener", "public"].conditions}
    assert ("SourceAddressHidden" in types) is warned
    if accepted == "False":
        assert verdict(plan, "Listener", "public", "Accepted") == ("False", "SourceAddressHidden")
        assert plan.mounts["default"].snapshot.listeners == []
    events = {(one.type, one.reason) for one in plan.events}
    assert (("Warning", "SourceAddressHidden") in events) is (warned or accepted == "False")


@pytest.mark.parametrize(
    ("spec", "warned"),
    [
        ({"defaultPolicy": {"tls": {"mode": "Required"}}}, True),
        ({"defaultPolicy": {"tls": {"mode": "Preferred"}}}, False),
        (
            {
                "defaultPolicy": {"tls": {"mode": "Required"}},
                "mailFlowPolicies": [{"name": "old", "tls": {"mode": "Preferred"}}],
                "senderGroups": [{"name": "old", "senders": ["192.0.2.0/24"], "policy": "old"}],
            },
            True,
        ),
        (
            {
                "mailFlowPolicies": [{"name": "strict", "tls": {"mode": "Required"}}],
                "senderGroups": [{"name": "partner", "senders": ["192.0.2.0/24"], "policy": "strict"}],
            },
            False,
        ),
        (
            {
                "defaultPolicy": {"behavior": "Reject", "tls": {"mode": "Required"}},
                "mailFlowPolicies": [{"name": "partner", "behavior": "Accept"}],
                "senderGroups": [{"name": "partner", "senders": ["192.0.2.0/24"], "policy": "partner"}],
            },
            False,
        ),
        (
            {
                "mailFlowPolicies": [{"name": "strict", "tls": {"mode": "Required"}}],
                "senderGroups": [{"name": "all", "senders": ["ALL"], "policy": "strict"}],
            },
            True,
        ),
        ({"protocol": "SMTPS", "defaultPolicy": {"tls": {"mode": "Required"}}}, False),
    ],
    ids=[
        "of everybody",
        "of nobody",
        "of strangers, some partners aside",
        "of partners",
        "of partners, strangers being refused",
        "of everybody by a group of ALL",
        "TLS from the first byte, where no stranger's mail comes in",
    ],
)
def test_tls_required_of_strangers_is_warned_of(spec: dict[str, Any], warned: bool):
    _, plan = settled(gateway(), listener(**spec))
    types = {one.type for one in plan.statuses["Listener", "public"].conditions}
    assert ("TLSRequiredOfAll" in types) is warned


@pytest.mark.parametrize(
    ("fields", "tls", "taken"),
    [
        ({}, {"names": ["partner.example"]}, True),
        ({}, {"fingerprints": ["0" * 64]}, True),
        ({}, {"caListRefs": [{"name": "partners"}]}, True),
        ({}, {"caListRefs": [{"name": "system"}]}, False),
        ({}, {"caListRefs": [{"name": "partners"}, {"name": "system"}]}, False),
        ({}, {}, False),
        ({"mode": "Preferred"}, {"names": ["partner.example"]}, False),
        ({"clientCertificate": "Optional"}, {"names": ["partner.example"]}, False),
    ],
    ids=[
        "by name",
        "by fingerprint",
        "by the CA of partners",
        "by the CAs of the web: they sign for anybody",
        "by the CA of partners, or the web's",
        "by any",
        "where nobody need shake hands",
        "where nobody need present one",
    ],
)
def test_relaying_for_everybody_takes_a_chosen_certificate(
    fields: dict[str, Any], tls: dict[str, Any], taken: bool
):
    given = {"mode": "Required", "clientCertificate": "Required", "clientCertificates": tls, **fields}
    spec: dict[str, Any] = {
        "mailFlowPolicies": [{"name": "out", "behavior": "Relay", "tls": given}],
        "senderGroups": [{"name": "all", "senders": ["ALL"], "policy": "out"}],
    }
    partners = ca_list("partners", type="Custom", certificates=ca_pem())
    _, plan = settled(gateway(), partners, listener(**spec))
    expected = ("True", "Accepted") if taken else ("False", "OpenRelay")
    assert verdict(plan, "Listener", "public", "Accepted") == expected
    smtps = listener(protocol="SMTPS", **spec)
    if "mode" in fields:  # TLS is there all the same
        _, plan = settled(gateway(), partners, smtps)
        assert verdict(plan, "Listener", "public", "Accepted") == ("True", "Accepted")


def test_ciphers_that_do_not_exist_are_refused_where_they_stand():
    """Members would refuse the whole set for them: nothing else that changes would get through."""
    good = listener(defaultPolicy={"tls": {"mode": "Preferred"}})
    _, before = settled(gateway(), good)
    wrong = listener(
        defaultPolicy={"tls": {"mode": "Preferred"}},
        mailFlowPolicies=[{"name": "partner", "tls": {"ciphers": "ECHDE+AESGCM"}}],
    )
    place = mounted(before)
    keys = {place["keys"].name: place["keys"]}
    plan = decide(world(gateway(), wrong, config_maps=place["config_maps"], secrets=keys), NOW)
    accepted = condition(plan, "Listener", "public", "Accepted")
    assert accepted.reason == "Invalid"
    assert "policy partner: ciphers 'ECHDE+AESGCM' names no cipher that OpenSSL knows" in accepted.message
    assert opened(plan).policies == opened(before).policies


@pytest.mark.parametrize(
    ("sender", "readable"),
    [
        *((one, True) for one in ("ALL", "10.0.0.9", "10.1.", "10", "10.0.0.0/8", "10.0.0.1-10.0.0.9")),
        *(
            (one, True)
            for one in ("2001:db8::/32", "mx.example.com", ".example.com", "mx-1.example", "4u.example")
        ),
        *((one, False) for one in ("10.0.0.999", "10.0.0.0/33", "10.0.0.9-10.0.0.1", "10.0.0.1-2001:db8::1")),
        *((one, False) for one in ("2001:db8::g", "1.2.3.4.5", "mx.example.com/24")),
    ],
)
def test_senders_that_stand_for_nobody_are_refused_by_name(sender: str, readable: bool):
    spec: dict[str, Any] = {
        "mailFlowPolicies": [{"name": "block", "behavior": "Reject"}],
        "senderGroups": [{"name": "bad", "senders": ["192.0.2.1", sender], "policy": "block"}],
    }
    plan = decide(world(gateway(), listener(**spec)), NOW)
    accepted = condition(plan, "Listener", "public", "Accepted")
    assert (accepted.reason == "Accepted") == readable
    if not readable:
        assert accepted.reason == "Invalid"
        assert sender in accepted.message
