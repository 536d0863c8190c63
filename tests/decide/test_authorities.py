"""Decisions about CA lists: what counts, what is left out and named, and when a list is refused."""

import certifi
import pytest
import trustme

from letterlock_operator.decide import decide
from letterlock_operator.world import Keep
from tests.decide.builders import (
    NOW,
    authority,
    ca_list,
    ca_pem,
    certificate,
    gateway,
    settled,
    verdict,
    world,
)


def leaf_pem() -> str:
    return authority().issue_cert("leaf.example").cert_chain_pems[0].bytes().decode()


def test_the_system_list_holds_mozillas_roots():
    from pathlib import Path

    roots = Path(certifi.where()).read_bytes()
    plan = decide(world(gateway(), ca_list("system", type="System"), system_roots=roots), NOW)
    status = plan.statuses["CAList", "system"].model_dump()
    assert status["count"] > 100
    assert verdict(plan, "CAList", "system", "Ready") == ("True", "Ready")


def test_only_the_list_named_system_may_be_of_that_type():
    plan = decide(world(gateway(), ca_list("other", type="System")), NOW)
    assert verdict(plan, "CAList", "other", "Accepted") == ("False", "Invalid")


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        pytest.param(ca_pem() + ca_pem(), ["duplicate"], id="a duplicate"),
        pytest.param(
            ca_pem() + leaf_pem(),
            ["not a CA: an end-entity certificate counts only if it is self-signed"],
            id="somebody's end-entity certificate",
        ),
        pytest.param(
            ca_pem() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ["block 2 is not a certificate"],
            id="rubbish",
        ),
        pytest.param("a heading\n====\n" + ca_pem(), [], id="headings are for people"),
    ],
)
def test_what_is_wrong_is_left_out_and_named(text: str, reasons: list[str]):
    plan = decide(world(gateway(), ca_list("own", certificates=text)), NOW)
    status = plan.statuses["CAList", "own"].model_dump()
    assert [one["reason"] for one in status["rejected"]] == reasons
    assert status["count"] == 1
    assert verdict(plan, "CAList", "own", "Ready") == ("True", "Ready")


def test_a_list_with_nothing_usable_is_refused():
    plan = decide(world(gateway(), ca_list("own", certificates=leaf_pem())), NOW)
    assert verdict(plan, "CAList", "own", "Ready") == ("False", "Empty")
    assert plan.mounts["default"].snapshot.trust == {}


def test_a_list_that_is_switched_off_trusts_nobody():
    plan = decide(world(gateway(), ca_list("own", certificates=ca_pem(), enabled=False)), NOW)
    assert verdict(plan, "CAList", "own", "Ready") == ("True", "Disabled")
    assert plan.mounts["default"].snapshot.trust == {}


def test_a_self_signed_certificate_made_here_is_pinned_from_its_secret():
    source = {"secretKeyRef": {"name": "letterlock-cert-mx", "key": "tls.crt"}}
    _, plan = settled(gateway(), certificate(), ca_list("pinned", certificatesFrom=source))
    status = plan.statuses["CAList", "pinned"].model_dump()
    assert (status["count"], status["pinned"]) == (1, 1)


@pytest.mark.parametrize(
    "keeps",
    [
        pytest.param({}, id="no ConfigMap"),
        pytest.param({"cas": Keep("cas", {"other": b""})}, id="no such key"),
    ],
)
def test_a_missing_source_is_named(keeps: dict[str, Keep]):
    source = {"configMapKeyRef": {"name": "cas", "key": "ca.pem"}}
    plan = decide(world(gateway(), ca_list("own", certificatesFrom=source), config_maps=keeps), NOW)
    assert verdict(plan, "CAList", "own", "Ready") == ("False", "SourceNotFound")


def test_another_gateways_list_does_not_count_here():
    own = ca_list("own", certificates=ca_pem(), gatewayRef={"name": "other"})
    plan = decide(world(gateway(), gateway("other"), own), NOW)
    assert plan.mounts["default"].snapshot.trust == {}
    assert list(plan.mounts["other"].snapshot.trust) == ["own"]


def test_an_expired_ca_is_left_out():
    old = trustme.CA()
    from datetime import timedelta

    from cryptography import x509

    end = x509.load_pem_x509_certificate(old.cert_pem.bytes()).not_valid_after_utc
    text = old.cert_pem.bytes().decode()
    plan = decide(world(gateway(), ca_list("own", certificates=text)), end + timedelta(days=2))
    assert [one["reason"] for one in plan.statuses["CAList", "own"].model_dump()["rejected"]] == ["expired"]
    assert verdict(plan, "CAList", "own", "Ready") == ("False", "Empty")
