"""HTTPS management: what members shall serve, and what is said where it is not what was asked for (H1, H2, C8, C10)."""

from dataclasses import replace
from typing import Any

import pytest

from letterlock_api.certificate import CertificateStatus
from letterlock_api.snapshot import Snapshot, users_file_name
from letterlock_operator.decide import decide, objects
from letterlock_operator.plan import Plan
from letterlock_operator.world import Keep, Member, Unreadable
from tests.decide.builders import (
    NOW,
    ca_list,
    ca_pem,
    certificate,
    condition,
    gateway,
    listener,
    settled,
    verdict,
)

HASH = "$2b$10$" + "a" * 53
HTTPS: dict[str, Any] = {
    "https": {"port": 8443, "certificateRef": {"name": "web"}},
    "usersSecretRef": {"name": "people"},
}


def people(content: str | None = f"ada:{HASH}\n", key: str = "htpasswd") -> dict[str, Any]:
    return {} if content is None else {"people": Keep("people", {key: content.encode()})}


def decided(management: dict[str, Any], *more: Any, secrets: dict[str, Any] | None = None) -> Plan:
    _, plan = settled(
        gateway(management=management),
        certificate("web"),
        *more,
        secrets=people() if secrets is None else secrets,
    )
    return plan


def served(plan: Plan) -> Any:
    return plan.mounts["default"].snapshot.management


def accepted(plan: Plan) -> tuple[str, str]:
    return verdict(plan, "MailGateway", "default", "Accepted")


def test_the_pages_are_served_with_the_chosen_certificate_to_the_users_of_the_secret():
    plan = decided(HTTPS)
    found = served(plan)
    assert (found.address, found.port, found.certificate.name) == ("", 8443, "web")
    assert not found.certificate.demo
    file = users_file_name(f"ada:{HASH}\n".encode())
    assert found.users_file == file
    assert plan.mounts["default"].tls_files[file] == f"ada:{HASH}\n".encode()  # in a Secret, beside the keys
    assert {file, found.certificate.file} <= set(plan.mounts["default"].snapshot.files)
    assert accepted(plan) == ("True", "Accepted")
    status = plan.statuses["Certificate", "web"]
    assert isinstance(status, CertificateStatus)
    assert status.used_by == ["MailGateway/default"]


def test_members_whose_pages_ask_each_other_are_named_also_those_that_are_to_go():
    world, _ = settled(gateway(management=HTTPS), certificate("web"), secrets=people())

    def snapshot(members: int) -> Snapshot:
        there = tuple(Member(f"default-{one}", True, None) for one in range(members))
        seen = replace(world, scales={"default": members}, members={"default": there})
        return decide(seen, NOW).mounts["default"].snapshot

    assert [(one.name, one.host) for one in snapshot(2).members] == [
        ("default-0", "default-0.default-members"),
        ("default-1", "default-1.default-members"),
    ]
    # A member more is no resource of another content.
    assert [one.name for one in snapshot(1).members] == ["default-0"]
    assert snapshot(1).digests == snapshot(2).digests
    assert decide(world, NOW).mounts["default"].snapshot.members == []  # one member, and no cluster


def test_nobody_is_named_where_nobody_asks():
    world, _ = settled(gateway())
    assert decide(replace(world, scales={"default": 2}), NOW).mounts["default"].snapshot.members == []


def test_without_https_there_is_nothing_and_its_service_goes():
    world, plan = settled(gateway(management={"usersSecretRef": {"name": "people"}}), secrets=people())
    assert served(plan) is None
    assert objects.services_without_use(world, plan) == ["default-https"]
    made = objects.objects(world, plan, objects.Pods(image="i"))
    assert "default-https" not in {one["metadata"]["name"] for one in made}


def test_a_service_leads_to_all_members_at_the_port_that_pods_may_bind():
    world, plan = settled(
        gateway(management={**HTTPS, "https": {"port": 443, "certificateRef": {"name": "web"}}}),
        certificate("web"),
        secrets=people(),
    )
    made = objects.objects(world, plan, objects.Pods(image="i"))
    service = next(one for one in made if one["metadata"]["name"] == "default-https")
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, 10443)
    policy = next(one for one in made if one["kind"] == "NetworkPolicy")
    assert 10443 in {one["port"] for one in policy["spec"]["ingress"][0]["ports"]}
    assert objects.services_without_use(world, plan) == []


def test_without_a_certificate_the_demo_one_serves_and_is_said_aloud():
    plan = decided({**HTTPS, "https": {}})
    assert served(plan).certificate.demo
    assert verdict(plan, "MailGateway", "default", "DemoCertificate") == ("True", "DemoCertificate")
    assert (
        "management.https.certificateRef"
        in condition(plan, "MailGateway", "default", "DemoCertificate").message
    )
    assert accepted(plan) == ("True", "Accepted")
    told = [one for one in plan.events if (one.kind, one.reason) == ("MailGateway", "DemoCertificate")]
    assert [one.type for one in told] == ["Warning"]


@pytest.mark.parametrize(
    ("management", "secrets", "reason", "words"),
    [
        pytest.param(HTTPS, people(None), "SecretNotFound", "people", id="the Secret is not there"),
        pytest.param(
            HTTPS, people(key="users"), "SecretNotFound", "the key htpasswd", id="it has another key"
        ),
        pytest.param({"https": HTTPS["https"]}, {}, "SecretNotFound", "usersSecretRef", id="none is named"),
        pytest.param(
            HTTPS, people("ada:secret\n"), "Invalid", "not hashed with bcrypt", id="nobody can be used"
        ),
        pytest.param(HTTPS, people(""), "Invalid", "it names no users", id="it is empty"),
    ],
)
def test_where_nobody_can_sign_in_nobody_does_and_a_condition_says_so(
    management: dict[str, Any], secrets: dict[str, Any], reason: str, words: str
):
    plan = decided(management, secrets=secrets)
    assert served(plan).users_file is None
    assert accepted(plan) == ("False", reason)
    said = condition(plan, "MailGateway", "default", "Accepted").message
    assert words in said
    assert "show nothing" in said
    assert "secret" not in said.replace("usersSecretRef", "").replace("SecretNotFound", "")
    assert verdict(plan, "MailGateway", "default", "Programmed")[0] == "False"


def test_a_line_that_cannot_be_used_is_said_and_the_others_sign_in():
    plan = decided(HTTPS, secrets=people(f"ada:{HASH}\nbob:$apr1$x\n"))
    assert accepted(plan) == ("False", "Invalid")
    assert "line 2" in condition(plan, "MailGateway", "default", "Accepted").message
    assert served(plan).users_file == users_file_name(f"ada:{HASH}\n".encode())


def test_a_secret_that_cannot_be_read_changes_nothing():
    world, plan = settled(gateway(management=HTTPS), certificate("web"), secrets=people())
    mount = plan.mounts["default"]
    in_place = Keep("default-snapshot", {"snapshot.json": mount.snapshot.encode()}, ours=True)
    keys = Keep("default-keys-0", dict(mount.tls_files), ours=True)
    _, after = settled(
        gateway(management=HTTPS),
        certificate("web"),
        secrets={**world.secrets, "people": Unreadable("denied"), keys.name: keys},
        config_maps={in_place.name: in_place},
    )
    assert accepted(after) == ("False", "Pending")
    assert served(after).users_file == served(plan).users_file
    assert after.mounts["default"].tls_files == mount.tls_files


def test_client_certificates_sign_in_by_name_or_fingerprint_and_need_their_list():
    chosen = {"caListRefs": [{"name": "own"}], "names": ["ada.example.com"]}
    management = {"https": HTTPS["https"], "clientCertificates": chosen}
    plan = decided(management, ca_list("own", scope="Referenced", certificates=ca_pem()), secrets={})
    found = served(plan)
    assert (found.client_certificates, found.client_names, found.client_ca_lists) == (
        True,
        ["ada.example.com"],
        ["own"],
    )
    assert accepted(plan) == ("True", "Accepted")  # nobody needs a password then

    without = decided(management, secrets={})
    assert not served(without).client_certificates
    assert accepted(without) == ("False", "CAListNotFound")


def test_a_listener_keeps_its_port():
    plan = decided(HTTPS, listener("public", port=8443))
    assert served(plan) is None
    assert accepted(plan) == ("False", "PortConflict")
    elsewhere = {**HTTPS, "https": {**HTTPS["https"], "address": "192.0.2.1"}}
    assert served(decided(elsewhere, listener("public", port=8443, address="192.0.2.2"))) is not None


def test_a_certificate_that_is_not_there_is_never_replaced_by_another():
    _, plan = settled(gateway(management=HTTPS), secrets=people())
    assert served(plan) is None
    assert accepted(plan) == ("False", "CertificateNotFound")
    _, taken = settled(
        gateway(management=HTTPS),
        certificate("web"),
        secrets=people(),
        foreign=frozenset({"Service/default-https"}),
    )
    assert served(taken) is None
    assert accepted(taken) == ("False", "NameTaken")
