"""Decisions about Certificates: what is made, what is refused, what is said."""

from datetime import timedelta
from typing import Any

import pytest

from letterlock_operator.decide import decide
from letterlock_operator.plan import Issue
from letterlock_operator.world import Keep, Unreadable
from tests.decide.builders import (
    NOW,
    ca_pem,
    certificate,
    certificate_status,
    condition,
    gateway,
    issue,
    issued,
    listener,
    lived,
    settled,
    tls_secret,
    verdict,
    world,
)
from tests.harness.issued import Issued


def test_a_missing_key_is_ordered_once_and_then_left_alone():
    first = decide(world(gateway(), certificate()), NOW)
    assert [order.secret for order in first.issues] == ["letterlock-cert-mx"]
    assert verdict(first, "Certificate", "mx", "Ready") == ("False", "Issuing")
    _, plan = settled(gateway(), certificate())
    assert plan.issues == ()
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")


def test_a_secret_that_cannot_be_read_is_not_taken_for_a_missing_one():
    plan = decide(
        world(gateway(), certificate(), secrets={"letterlock-cert-mx": Unreadable("forbidden")}), NOW
    )
    assert plan.issues == ()
    assert verdict(plan, "Certificate", "mx", "Ready") == ("Unknown", "Pending")


def test_a_secret_of_somebody_else_is_never_taken_over():
    foreign = Keep("letterlock-cert-mx", {"tls.key": b"x"}, ours=False)
    plan = decide(world(gateway(), certificate(), secrets={foreign.name: foreign}), NOW)
    assert plan.issues == ()
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "NameTaken")


def test_two_certificates_whose_secrets_have_one_name_do_not_replace_each_others_key():
    of_member = certificate("mx", level="Machine")
    for_all = certificate("mx-default-0")
    secrets, plan = lived(gateway(), of_member)
    after, plan = lived(gateway(), of_member, for_all, secrets=secrets)
    assert after == secrets
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    assert verdict(plan, "Certificate", "mx-default-0", "Ready") == ("False", "NameTaken")
    assert "Certificate/mx" in condition(plan, "Certificate", "mx-default-0", "Ready").message


def test_an_export_into_the_secret_with_the_key_is_refused():
    place = {"secretName": "letterlock-cert-mx", "fileName": "mx.p12"}
    passphrase = {"passphraseSecretKeyRef": {"name": "passphrase", "key": "text"}}
    resource = certificate(export={"pkcs12": {**place, **passphrase}})
    secrets: dict[str, Any] = {"passphrase": Keep("passphrase", {"text": b"secret"})}
    secrets, plan = lived(gateway(), resource, secrets=secrets)
    assert secrets["letterlock-cert-mx"].data["tls.key"]
    assert verdict(plan, "Certificate", "mx", "NotExported") == ("True", "NotExported")
    assert "where its key lies" in condition(plan, "Certificate", "mx", "NotExported").message


def test_a_changed_name_signs_anew_with_the_same_key_and_the_secrets_revision():
    secrets = issued(decide(world(gateway(), certificate()), NOW), revision="7")
    changed = certificate(dnsNames=["mx.example.com", "mail.example.com"])
    order = issue(decide(world(gateway(), changed, secrets=secrets), NOW))
    assert (order.keep_key, order.replaces) == (True, "7")


def test_another_algorithm_needs_another_key():
    secrets = issued(decide(world(gateway(), certificate()), NOW))
    changed = certificate(privateKey={"algorithm": "RSA"})
    order = issue(decide(world(gateway(), changed, secrets=secrets), NOW))
    assert (order.keep_key, order.algorithm, order.size) == (False, "RSA", 2048)


@pytest.mark.parametrize(
    ("days", "orders"),
    [
        pytest.param(60, 0, id="two thirds of 90 days are not over after 59"),
        pytest.param(31, 1, id="a third before the end it renews"),
    ],
)
def test_renewal_starts_a_third_of_the_lifetime_ahead(days: int, orders: int):
    resource = certificate(days=90)
    secrets = issued(decide(world(gateway(), resource), NOW))
    later = NOW + timedelta(days=90 - days + 1 if orders == 0 else 90 - 29)
    plan = decide(world(gateway(), resource, secrets=secrets), later)
    assert len(plan.issues) == orders
    # While it renews, the present one is served on.
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")


def test_another_certificate_is_an_event_and_the_first_one_is_no_second_one():
    resource = certificate(days=90)
    first = decide(world(gateway(), resource), NOW)
    secrets = issued(first)
    ready = decide(world(gateway(), resource, secrets=secrets), NOW)
    assert [one.message for one in ready.events if one.reason == "Issued"] == ["Ready is True"]
    resource = resource.model_copy(update={"status": certificate_status(ready)})
    again = decide(world(gateway(), resource, secrets=secrets), NOW)
    assert [one for one in again.events if one.reason == "Issued"] == []
    later = NOW + timedelta(days=61)
    renewing = decide(world(gateway(), resource, secrets=secrets), later)
    renewed = issued(renewing, later, revision="2", before=secrets)
    plan = decide(world(gateway(), resource, secrets={**secrets, **renewed}), later)
    (told,) = [one for one in plan.events if one.reason == "Issued"]
    ends = certificate_status(plan).not_after
    assert ends is not None
    assert f"which ends on {ends:%Y-%m-%d}" in told.message


def test_never_renews_when_told_so():
    resource = certificate(days=90, renewal={"mode": "Never"})
    secrets = issued(decide(world(gateway(), resource), NOW))
    plan = decide(world(gateway(), resource, secrets=secrets), NOW + timedelta(days=91))
    assert plan.issues == ()
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "Expired")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param(
            {"dnsNames": [], "subject": {"commonName": "mx.example.com"}},
            "NotClusterCapable",
            id="a bare common name serves no cluster",
        ),
        pytest.param({"dnsNames": [], "subject": {}}, "Invalid", id="no name at all"),
        pytest.param({"gatewayRef": {"name": "other"}}, "GatewayNotFound", id="a gateway that is not there"),
        pytest.param({"dnsNames": ["{member}.example.com"]}, "Invalid", id="a placeholder at cluster level"),
        pytest.param(
            {"level": "Machine", "dnsNames": [], "secretRef": {"name": "one-for-all"}},
            "Invalid",
            id="one brought certificate for several members",
        ),
        pytest.param({"dnsNames": ["☃.example"]}, "Invalid", id="a name that IDNA does not take"),
        pytest.param({"subject": {"commonName": "mü_ller.example"}}, "Invalid", id="the same as common name"),
        pytest.param({"dnsNames": ["mx*.müller.example"]}, "Invalid", id="a star within an A-label"),
        pytest.param(
            {"subject": {"commonName": f"müller.{'x' * 57}"}}, "Invalid", id="a common name beyond 64 bytes"
        ),
        pytest.param(
            {
                "level": "Machine",
                "dnsNames": [],
                "subject": {"commonName": f"{{member}}.{'x' * 43}.example.com"},
            },
            "Invalid",
            id="a common name that is too long for a member",
        ),
    ],
)
def test_refusals(spec: dict[str, Any], reason: str):
    plan = decide(world(gateway(replicas=2), certificate(**spec)), NOW)
    assert plan.issues == ()
    assert verdict(plan, "Certificate", "mx", "Accepted") == ("False", reason)
    assert verdict(plan, "Certificate", "mx", "Programmed")[0] == "False"


@pytest.mark.parametrize("name", ["*.example.com", "mx*.example.com"])
def test_a_wildcard_common_name_serves_the_cluster(name: str):
    _, plan = settled(gateway(), certificate(dnsNames=[], subject={"commonName": name}))
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")


def test_machine_level_makes_one_for_each_member_and_scaling_out_touches_none_of_them():
    resource = certificate(level="Machine", dnsNames=["{member}.example.com"])
    two, plan = settled(gateway(replicas=2), resource)
    assert sorted(two.secrets) == ["letterlock-cert-mx-default-0", "letterlock-cert-mx-default-1"]
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    four = decide(world(gateway(replicas=4), resource, secrets=two.secrets), NOW)
    assert [one.secret for one in four.issues] == [
        "letterlock-cert-mx-default-2",
        "letterlock-cert-mx-default-3",
    ]
    assert isinstance(four.issues[0], Issue)
    assert four.issues[0].dns_names == ("default-2.example.com",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(None, "SecretNotFound", id="no Secret"),
        pytest.param({"tls.key": b""}, "SecretNotFound", id="an empty one"),
        pytest.param({"tls.key": b"no key", "tls.crt": b"x"}, "InvalidPEM", id="no PEM"),
        pytest.param("mixed", "KeyMismatch", id="key and certificate of two pairs"),
    ],
)
def test_a_secret_that_someone_else_keeps_is_checked(data: dict[str, bytes] | str | None, reason: str):
    secrets: dict[str, Keep] = {}
    if data == "mixed":
        one, two = tls_secret("theirs", "a.example"), tls_secret("theirs", "b.example")
        secrets["theirs"] = Keep("theirs", {"tls.key": one.data["tls.key"], "tls.crt": two.data["tls.crt"]})
    elif isinstance(data, dict):
        secrets["theirs"] = Keep("theirs", data)
    resource = certificate(level=None, dnsNames=[], secretRef={"name": "theirs"})
    plan = decide(world(gateway(), resource, secrets=secrets), NOW)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", reason)


def test_a_certificate_of_old_is_chosen_by_its_common_name():
    """Without alternative names there is nothing else that a client could ask for."""
    old = Issued.make("MX.example.com", now=NOW)
    theirs = Keep("old", {"tls.key": old.key_pem, "tls.crt": old.pem}, type="kubernetes.io/tls")
    served = certificate(level="Machine", dnsNames=[], secretRef={"name": "old"})
    resource = listener(certificateRefs=[{"name": "mx"}], defaultPolicy={"tls": {"mode": "Preferred"}})
    _, plan = settled(gateway(), served, resource, secrets={"old": theirs})
    (one,) = plan.mounts["default"].snapshot.listeners[0].certificates
    assert one.names == ["mx.example.com"]


def test_a_good_secret_of_someone_else_is_served_at_cluster_level():
    resource = certificate(level=None, dnsNames=[], secretRef={"name": "theirs"})
    secrets = {"theirs": tls_secret("theirs", "mx.example.com")}
    users = listener(certificateRefs=[{"name": "mx"}], defaultPolicy={"tls": {"mode": "Preferred"}})
    plan = decide(world(gateway(), resource, users, secrets=secrets), NOW)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    status = plan.statuses["Certificate", "mx"].model_dump()
    assert (status["level"], status["dns_names"], status["used_by"]) == (
        "Cluster",
        ["mx.example.com"],
        ["Listener/public"],
    )
    (file,) = plan.mounts["default"].tls_files.values()
    assert file.count(b"BEGIN CERTIFICATE") == 1, "the root is not sent along"
    assert ca_pem().encode() not in file


def test_a_weak_key_is_made_and_flagged():
    _, plan = settled(gateway(), certificate(privateKey={"algorithm": "RSA", "size": 1024}))
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    assert verdict(plan, "Certificate", "mx", "WeakKey") == ("True", "WeakKey")


def test_the_request_in_the_status_is_for_the_same_key_and_names():
    from cryptography import x509

    _, plan = settled(gateway(), certificate(subject={"organization": "Example Ltd"}))
    text = plan.statuses["Certificate", "mx"].model_dump()["request"]
    request = x509.load_pem_x509_csr(text.encode())
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "O=Example Ltd"
