"""Renewal that peers hear of first, clocks that jump, names and members that come and go (C4, C9, C11)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from letterlock_operator.decide import decide
from letterlock_operator.plan import Issue
from letterlock_operator.world import Keep, Member
from tests.decide.builders import (
    NOW,
    certificate,
    condition,
    gateway,
    issue,
    lived,
    tls_secret,
    verdict,
    world,
)
from tests.decide.builders import certificate_status as status

PREPARE: dict[str, Any] = {"days": 90, "renewal": {"mode": "Prepare"}}


def served(secrets: dict[str, Any], name: str = "letterlock-cert-mx") -> tuple[bytes, bytes]:
    return secrets[name].data["tls.key"], secrets[name].data["tls.crt"]


@pytest.mark.parametrize("rotate", [False, True], ids=["with the same key", "with a new key"])
def test_prepare_publishes_the_next_one_and_waits_to_be_told(rotate: bool):
    spec: dict[str, Any] = {"days": 90, "renewal": {"mode": "Prepare", "rotateKey": rotate}}
    secrets, plan = lived(gateway(), certificate(**spec))
    assert status(plan).next is None
    first = served(secrets)
    later = NOW + timedelta(days=61)
    secrets, plan = lived(gateway(), certificate(**spec), secrets=secrets, moment=later)
    assert served(secrets) == first, "peers hold the present one"
    following = status(plan).next
    assert following is not None
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    assert verdict(plan, "Certificate", "mx", "Issuing") == ("True", "AwaitingActivation")
    assert following.fingerprint in condition(plan, "Certificate", "mx", "ExpiringSoon").message
    # Nothing happens until then, and nothing is prepared twice.
    again, plan = lived(gateway(), certificate(**spec), secrets=secrets, moment=later + timedelta(days=20))
    assert again == secrets
    spec["renewal"]["activate"] = following.fingerprint
    secrets, plan = lived(gateway(), certificate(**spec), secrets=secrets, moment=later + timedelta(days=21))
    assert status(plan).fingerprint == following.fingerprint
    assert served(secrets)[1].decode() == following.certificate
    assert (served(secrets)[0] != first[0]) is rotate
    assert status(plan).next is None
    assert "ExpiringSoon" not in {one.type for one in status(plan).conditions}


def test_prepare_announces_a_changed_name_too():
    secrets, _ = lived(gateway(), certificate(**PREPARE))
    changed = certificate(**PREPARE, dnsNames=["mx.example.com", "mail.example.com"])
    after, plan = lived(gateway(), changed, secrets=secrets)
    assert served(after) == served(secrets)
    assert status(plan).next is not None


def test_what_was_prepared_from_another_spec_is_prepared_anew():
    secrets, _ = lived(gateway(), certificate(**PREPARE))
    one = certificate(**PREPARE, dnsNames=["one.example.com"])
    two = certificate(**PREPARE, dnsNames=["two.example.com"])
    secrets, plan = lived(gateway(), one, secrets=secrets)
    first = status(plan).next
    secrets, plan = lived(gateway(), two, secrets=secrets)
    second = status(plan).next
    assert first is not None
    assert second is not None
    assert first.fingerprint != second.fingerprint


def test_an_unknown_fingerprint_activates_nothing():
    later = NOW + timedelta(days=61)
    secrets, _ = lived(gateway(), certificate(**PREPARE))
    secrets, _ = lived(gateway(), certificate(**PREPARE), secrets=secrets, moment=later)
    wrong = certificate(days=90, renewal={"mode": "Prepare", "activate": "0" * 64})
    after, _ = lived(gateway(), wrong, secrets=secrets, moment=later)
    assert served(after) == served(secrets)


def test_a_prepared_one_that_nobody_activates_says_that_the_present_one_has_ended():
    secrets, _ = lived(gateway(), certificate(**PREPARE))
    secrets, _ = lived(gateway(), certificate(**PREPARE), secrets=secrets, moment=NOW + timedelta(days=61))
    after, plan = lived(gateway(), certificate(**PREPARE), secrets=secrets, moment=NOW + timedelta(days=91))
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "Expired")
    assert "activate" in condition(plan, "Certificate", "mx", "Ready").message
    assert served(after) == served(secrets), "never another one unannounced"


def test_without_prepare_what_was_prepared_is_not_needed():
    later = NOW + timedelta(days=61)
    secrets, _ = lived(gateway(), certificate(**PREPARE))
    secrets, _ = lived(gateway(), certificate(**PREPARE), secrets=secrets, moment=later)
    after, plan = lived(gateway(), certificate(days=90), secrets=secrets, moment=later)
    assert status(plan).next is None
    assert served(after) != served(secrets)


def test_a_certificate_of_a_clock_that_was_ahead_is_made_anew_with_its_key():
    secrets, _ = lived(gateway(), certificate(), moment=NOW + timedelta(days=2))
    plan = decide(world(gateway(), certificate(), secrets=secrets), NOW)
    assert issue(plan).keep_key
    # A clock that is a little ahead is none.
    secrets, _ = lived(gateway(), certificate(), moment=NOW + timedelta(minutes=2))
    assert decide(world(gateway(), certificate(), secrets=secrets), NOW).issues == ()


def test_a_broken_certificate_beside_a_good_key_keeps_the_key():
    secrets, _ = lived(gateway(), certificate())
    kept: Keep = secrets["letterlock-cert-mx"]
    broken = replace(kept, data={**kept.data, "tls.crt": b"x"}, resource_version="9")
    after, plan = lived(gateway(), certificate(), secrets={kept.name: broken})
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    assert after[kept.name].data["tls.key"] == kept.data["tls.key"]


def test_the_plan_wakes_for_every_renewal_the_demo_certificate_included():
    from tests.decide.builders import listener

    tls = listener(defaultPolicy={"tls": {"mode": "Preferred"}})
    _, plan = lived(gateway(), tls)
    assert plan.wake is not None
    assert NOW < plan.wake < NOW + timedelta(days=365)


MACHINE: dict[str, Any] = {"level": "Machine", "dnsNames": ["mx{ordinal}.example.com"]}


def _members(count: int) -> dict[str, tuple[Member, ...]]:
    return {"default": tuple(Member(f"default-{n}", ready=True, state=None) for n in range(count))}


def test_scaling_out_and_in_makes_and_retires_exactly_the_new_members_pairs():
    two, _ = lived(gateway(replicas=2), certificate(**MACHINE), members=_members(2))
    four, plan = lived(gateway(replicas=4), certificate(**MACHINE), secrets=two, members=_members(4))
    assert sorted(four) == [f"letterlock-cert-mx-default-{n}" for n in range(4)]
    assert {name: four[name] for name in two} == two
    assert [one.name for one in status(plan).members or ()] == [f"default-{n}" for n in range(4)]
    # A member that still has mail keeps its certificate until it has gone.
    draining, _ = lived(gateway(replicas=2), certificate(**MACHINE), secrets=four, members=_members(4))
    assert draining == four
    back, plan = lived(gateway(replicas=2), certificate(**MACHINE), secrets=draining, members=_members(2))
    assert back == two
    assert [one.name for one in status(plan).members or ()] == ["default-0", "default-1"]


def test_only_our_own_pairs_are_retired():
    foreign = Keep("letterlock-cert-mx-default-7", {"tls.key": b"x"}, ours=False)
    other = Keep("letterlock-cert-mx-default-8", {}, ours=True, owner="Certificate/mx-default-8")
    secrets = {one.name: one for one in (foreign, other)}
    _, plan = lived(gateway(), certificate(**MACHINE), secrets=secrets)
    assert plan.retired == ()


@pytest.mark.parametrize(
    ("hostname", "names", "says"),
    [
        pytest.param(
            "mx{ordinal}.example.com", ["mx0.example.com", "mx1.example.com"], "", id="each by name"
        ),
        pytest.param("mx{ordinal}.example.com", ["*.example.com"], "", id="all by wildcard"),
        pytest.param(
            "mx{ordinal}.example.com", ["mx0.example.com", "example.com"], "mx1.example.com", id="one left"
        ),
        pytest.param("mx.a.example.com", ["*.example.com"], "mx.a.example.com", id="a wildcard is one label"),
        pytest.param("mx.example.com", ["mail.example.org"], "mail.example.org covers no member", id="none"),
        pytest.param(None, ["mail.example.org"], "", id="members without host names"),
        pytest.param("mx{ordinal}.example.com", ["mx*.example.com"], "", id="a star for a part of the label"),
        pytest.param("mx{ordinal}.bücher.example", ["*.bücher.example"], "", id="in another script"),
    ],
)
def test_names_that_cover_no_member_are_reported(hostname: str | None, names: list[str], says: str):
    place = gateway(replicas=2, **({"hostname": hostname} if hostname else {}))
    _, plan = lived(place, certificate(dnsNames=names))
    found = [one for one in status(plan).conditions if one.type == "NamesNotCovered"]
    assert bool(found) is bool(says)
    if found:
        assert (found[0].status, found[0].reason) == ("True", "NamesNotCovered")
        assert says in found[0].message


def test_a_brought_secret_for_each_member():
    spec: dict[str, Any] = {"level": "Machine", "dnsNames": [], "secretRef": {"name": "tls-{member}"}}
    secrets = {f"tls-default-{n}": tls_secret(f"tls-default-{n}", f"mx{n}.example.com") for n in range(2)}
    _, plan = lived(gateway(replicas=2), certificate(**spec), secrets=secrets)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    assert len({one.fingerprint for one in status(plan).members or ()}) == 2
    del secrets["tls-default-1"]
    _, plan = lived(gateway(replicas=2), certificate(**spec), secrets=secrets)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "SecretNotFound")
    assert "tls-default-1" in condition(plan, "Certificate", "mx", "Ready").message


def test_what_a_member_has_exported_stays_while_its_pair_is_missing():
    spec: dict[str, Any] = {
        "level": "Machine",
        "dnsNames": [],
        "secretRef": {"name": "tls-{member}"},
        "export": {
            "pkcs12": {
                "secretName": "out-{member}",
                "fileName": "mx.p12",
                "passphraseSecretKeyRef": {"name": "passphrase", "key": "text"},
            }
        },
    }
    secrets: dict[str, Keep] = {"passphrase": Keep("passphrase", {"text": b"secret"})}
    secrets |= {f"tls-default-{n}": tls_secret(f"tls-default-{n}", f"mx{n}.example.com") for n in range(2)}
    secrets, _ = lived(gateway(replicas=2), certificate(**spec), secrets=secrets)
    assert {"out-default-0", "out-default-1"} <= secrets.keys()
    del secrets["tls-default-1"]
    _, plan = lived(gateway(replicas=2), certificate(**spec), secrets=secrets)
    assert plan.retired == ()
    after, _ = lived(gateway(replicas=1), certificate(**spec), secrets=secrets)
    assert "out-default-1" not in after


def test_a_rotated_secret_of_someone_else_is_followed():
    spec: dict[str, Any] = {"level": None, "dnsNames": [], "secretRef": {"name": "theirs"}}
    before = {"theirs": tls_secret("theirs", "mx.example.com")}
    _, first = lived(gateway(), certificate(**spec), secrets=before)
    _, second = lived(
        gateway(), certificate(**spec), secrets={"theirs": tls_secret("theirs", "mx.example.com")}
    )
    assert status(first).fingerprint != status(second).fingerprint
    assert not [one for one in second.issues if isinstance(one, Issue)], "their Secret stays theirs"
