"""Certificates that a CA signed for our request: taken, refused, renewed (C3, C7, C11)."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from letterlock_operator.decide import decide
from letterlock_operator.plan import Install, Issue
from letterlock_operator.world import Keep
from tests.decide.authority import Authority, intermediate, other_root, root
from tests.decide.builders import (
    NOW,
    ca_list,
    certificate,
    condition,
    gateway,
    lived,
    verdict,
    world,
)
from tests.decide.builders import certificate_status as status

_PEM = "-----BEGIN CERTIFICATE-----"


def made(**spec: Any) -> tuple[dict[str, Any], str]:
    """The Secrets of a certificate that is self-signed so far, and the request."""
    secrets, plan = lived(gateway(), certificate(**spec))
    request = status(plan).request
    assert request
    return secrets, request


def uploaded(signed: str, intermediates: str | None = None, **spec: Any) -> Any:
    entry = {"certificate": signed, **({"intermediates": intermediates} if intermediates else {})}
    return certificate(signed=[entry], **spec)


def pasted(pem: str) -> str:
    """As people paste it: indented, with Windows line ends, non-breaking spaces and remarks."""
    lines = ["Here is your certificate:", *(f"  \u00a0{line} " for line in pem.strip().splitlines())]
    return "\r\n".join(lines)


type Pair = tuple[str, str | None]

ARRANGEMENTS: dict[str, Callable[[str, str], Pair]] = {
    "the chain in its own field": lambda leaf, above: (leaf, above),
    "the chain behind the certificate": lambda leaf, above: (leaf + above, None),
    "the chain before the certificate": lambda leaf, above: (above + leaf, None),
    "the root among the intermediates": lambda leaf, above: (leaf, root().pem + above),
    "odd white space and remarks": lambda leaf, above: (pasted(leaf), pasted(above)),
    "an intermediate twice": lambda leaf, above: (leaf, above + above),
    "an intermediate that another root has signed too": lambda leaf, above: (leaf, _crossed().pem + above),
    "that other root as well, and the root signed by it": lambda leaf, above: (
        leaf,
        above + _crossed().pem + root().pem + root().signed_by(_other_root()).pem + _other_root().pem,
    ),
}


@cache
def _other_root() -> Authority:
    return other_root("Old root")


def _crossed() -> Authority:
    return intermediate().signed_by(_other_root())


@pytest.mark.parametrize("arranged", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_a_signed_certificate_replaces_the_self_signed_one(
    arranged: Callable[[str, str], Pair],
):
    secrets, request = made()
    leaf = intermediate().sign(request)
    resource = uploaded(*arranged(leaf, intermediate().pem))
    trusted = ca_list("own", certificates=root().pem)
    after, plan = lived(gateway(), resource, trusted, secrets=secrets)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    stored: bytes = after["letterlock-cert-mx"].data["tls.crt"]
    assert stored.decode() == leaf + intermediate().pem, "leaf first, then what signed it, no root"
    assert after["letterlock-cert-mx"].data["tls.key"] == secrets["letterlock-cert-mx"].data["tls.key"]
    seen = status(plan)
    assert (seen.self_signed, seen.issuer, seen.intermediates) == (
        False,
        "CN=Intermediate",
        ["CN=Intermediate"],
    )
    assert seen.request == request
    assert "IssuerNotTrusted" not in {one.type for one in seen.conditions}


def _other_key() -> str:
    _, request = made()
    return intermediate().sign(request)


@cache
def _late() -> Authority:
    return root().authority("Late", start=NOW - timedelta(days=20), days=19)


WRONG: dict[str, tuple[Callable[[str], Pair], str, str]] = {
    "another key's": (lambda _: (_other_key(), None), "KeyMismatch", "another key"),
    "cut off": (lambda _: (f"{_PEM}\nbm8=\n", None), "InvalidPEM", "has no end"),
    "no certificate": (
        lambda _: (f"{_PEM}\nbm8=\n-----END CERTIFICATE-----", None),
        "InvalidPEM",
        "not a certificate",
    ),
    "the request itself": (lambda request: (request, None), "InvalidPEM", "paste PEM"),
    "an intermediate that did not sign it": (
        lambda request: (intermediate().sign(request), root().authority("Stranger").pem),
        "ChainBroken",
        "CN=Stranger",
    ),
    "one that has expired": (
        lambda request: (intermediate().sign(request, start=NOW - timedelta(days=9), days=8), None),
        "Expired",
        "expired on",
    ),
    "one below an intermediate that has expired": (
        lambda request: (_late().sign(request), _late().pem),
        "Expired",
        "its intermediate CN=Late ends on",
    ),
    "one of the future": (
        lambda request: (intermediate().sign(request, start=NOW + timedelta(days=2)), None),
        "NotYetValid",
        "valid from",
    ),
}


@pytest.mark.parametrize(("wrong", "reason", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_upload_leaves_the_present_one_in_use(wrong: Callable[[str], Pair], reason: str, says: str):
    secrets, request = made()
    good = intermediate().sign(request)
    secrets, plan = lived(gateway(), uploaded(good, intermediate().pem), secrets=secrets)
    served = status(plan).fingerprint
    after, plan = lived(gateway(), uploaded(*wrong(request)), secrets=secrets)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", reason)
    message = condition(plan, "Certificate", "mx", "Ready").message
    assert says in message
    assert "present certificate stays in use" in message
    assert after == secrets
    assert status(plan).fingerprint == served
    assert status(plan).issuer == "CN=Intermediate"


def test_a_certificate_of_the_future_is_taken_when_its_time_comes():
    secrets, request = made()
    early = uploaded(intermediate().sign(request, start=NOW + timedelta(hours=2)), intermediate().pem)
    _, plan = lived(gateway(), early, secrets=secrets)
    assert plan.wake == NOW + timedelta(hours=2)
    _, plan = lived(gateway(), early, secrets=secrets, moment=NOW + timedelta(hours=2))
    assert status(plan).issuer == "CN=Intermediate"


def test_a_signer_that_no_enabled_list_holds_is_reported():
    secrets, request = made()
    resource = uploaded(intermediate().sign(request), intermediate().pem)
    for lists, reported in (
        ((), True),
        ((ca_list("own", certificates=root().pem, enabled=False),), True),
        ((ca_list("own", certificates=root().pem),), False),
    ):
        _, plan = lived(gateway(), resource, *lists, secrets=secrets)
        found = {one.type for one in status(plan).conditions}
        assert ("IssuerNotTrusted" in found) is reported


def test_a_signer_is_trusted_from_any_certificate_of_the_chain_on():
    """A chain may be sent up to an older root than the one that is listed: peers build their own way."""
    secrets, request = made()
    longer = intermediate().pem + root().signed_by(_other_root()).pem
    resource = uploaded(intermediate().sign(request), longer)
    _, plan = lived(gateway(), resource, ca_list("own", certificates=root().pem), secrets=secrets)
    seen = status(plan)
    assert seen.intermediates == ["CN=Intermediate", "CN=Root"]
    assert "IssuerNotTrusted" not in {one.type for one in seen.conditions}


def test_an_intermediate_that_ends_before_the_certificate_is_told_in_time():
    secrets, request = made()
    brief = root().authority("Brief", days=31)
    resource = uploaded(brief.sign(request, days=300), brief.pem)
    secrets, plan = lived(gateway(), resource, secrets=secrets)
    assert "ExpiringSoon" not in {one.type for one in status(plan).conditions}
    assert plan.wake == NOW + timedelta(days=15)
    for days in (15, 40):
        _, plan = lived(gateway(), resource, secrets=secrets, moment=NOW + timedelta(days=days))
        assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
        assert (
            "its intermediate CN=Brief ends on"
            in condition(plan, "Certificate", "mx", "ExpiringSoon").message
        )


def test_near_its_end_a_new_request_is_ready_and_said_so():
    secrets, request = made(renewal={"rotateKey": True})
    resource = uploaded(intermediate().sign(request), intermediate().pem, renewal={"rotateKey": True})
    secrets, plan = lived(gateway(), resource, secrets=secrets)
    assert plan.wake is not None
    assert "ExpiringSoon" not in {one.type for one in status(plan).conditions}
    later = NOW + timedelta(days=61)
    secrets, plan = lived(gateway(), resource, secrets=secrets, moment=later)
    assert verdict(plan, "Certificate", "mx", "ExpiringSoon") == ("True", "ExpiringSoon")
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    following = status(plan).request
    assert following
    assert following != request
    # What was signed for the new request comes with its own key; the old one would not do any more.
    before = secrets["letterlock-cert-mx"].data["tls.key"]
    renewed = uploaded(
        intermediate().sign(following, start=later), intermediate().pem, renewal={"rotateKey": True}
    )
    secrets, plan = lived(gateway(), renewed, secrets=secrets, moment=later)
    assert secrets["letterlock-cert-mx"].data["tls.key"] != before
    assert "ExpiringSoon" not in {one.type for one in status(plan).conditions}
    assert status(plan).request == following
    assert not [key for key in secrets["letterlock-cert-mx"].data if key.startswith("next.")]


def test_a_renewal_under_the_same_request_keeps_the_key():
    secrets, request = made()
    first = uploaded(intermediate().sign(request), intermediate().pem)
    secrets, _ = lived(gateway(), first, secrets=secrets)
    later = NOW + timedelta(days=80)
    second = uploaded(intermediate().sign(request, start=later), intermediate().pem)
    plan = decide(world(gateway(), second, secrets=secrets), later)
    (order,) = plan.issues
    assert isinstance(order, Install)
    after, _ = lived(gateway(), second, secrets=secrets, moment=later)
    assert after["letterlock-cert-mx"].data["tls.key"] == secrets["letterlock-cert-mx"].data["tls.key"]


def test_a_changed_name_asks_for_a_new_signature_and_serves_on():
    secrets, request = made()
    signed = intermediate().sign(request)
    secrets, plan = lived(gateway(), uploaded(signed, intermediate().pem), secrets=secrets)
    served = status(plan).fingerprint
    wider = uploaded(signed, intermediate().pem, dnsNames=["mx.example.com", "mail.example.com"])
    secrets, plan = lived(gateway(), wider, secrets=secrets)
    assert status(plan).fingerprint == served
    assert status(plan).request != request


def test_an_expired_upload_is_served_and_said():
    secrets, request = made()
    resource = uploaded(intermediate().sign(request, days=3), intermediate().pem)
    secrets, _ = lived(gateway(), resource, secrets=secrets)
    _, plan = lived(gateway(), resource, secrets=secrets, moment=NOW + timedelta(days=4))
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "Expired")
    assert plan.mounts["default"].snapshot.digests.get("Certificate/mx")


def test_without_the_upload_it_is_self_signed_again():
    secrets, request = made()
    resource = uploaded(intermediate().sign(request), intermediate().pem)
    secrets, _ = lived(gateway(), resource, secrets=secrets)
    after, plan = lived(gateway(), certificate(), secrets=secrets)
    assert status(plan).self_signed
    assert after["letterlock-cert-mx"].data["tls.key"] == secrets["letterlock-cert-mx"].data["tls.key"]


def test_the_self_signed_one_does_not_end_while_the_upload_is_wrong():
    secrets, _ = made(days=30)
    resource = uploaded(_other_key(), days=30)
    moment = NOW + timedelta(days=25)
    plan = decide(world(gateway(), resource, secrets=secrets), moment)
    (order,) = plan.issues
    assert isinstance(order, Issue)
    assert order.keep_key
    _, plan = lived(gateway(), resource, secrets=secrets, moment=moment)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "KeyMismatch")


def test_prepare_announces_the_next_one_while_the_upload_is_wrong_too():
    spec: dict[str, Any] = {"days": 30, "renewal": {"mode": "Prepare"}}
    secrets, _ = made(**spec)
    served = secrets["letterlock-cert-mx"].data["tls.crt"]
    moment = NOW + timedelta(days=25)
    secrets, plan = lived(gateway(), uploaded(_other_key(), **spec), secrets=secrets, moment=moment)
    assert secrets["letterlock-cert-mx"].data["tls.crt"] == served, "peers hold this one"
    following = status(plan).next
    assert following is not None
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "KeyMismatch")
    assert verdict(plan, "Certificate", "mx", "ExpiringSoon") == ("True", "AwaitingActivation")
    # What a CA signs in the end takes the place of both.
    request = status(plan).request
    assert request
    right = uploaded(intermediate().sign(request, start=moment), intermediate().pem, **spec)
    secrets, plan = lived(gateway(), right, secrets=secrets, moment=moment)
    assert status(plan).issuer == "CN=Intermediate"
    assert not [key for key in secrets["letterlock-cert-mx"].data if key.startswith("next.")]


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        pytest.param({}, "SourceNotFound", id="no ConfigMap"),
        pytest.param({"signed": Keep("signed", {"other": b""})}, "SourceNotFound", id="no such key in it"),
    ],
)
def test_uploads_by_reference(there: dict[str, Keep], reason: str):
    secrets, request = made()
    reference = {"configMapKeyRef": {"name": "signed", "key": "crt"}}
    resource = certificate(signed=[{"certificateFrom": reference}])
    _, plan = lived(gateway(), resource, secrets=secrets, config_maps=there)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", reason)
    signed = Keep("signed", {"crt": (intermediate().sign(request) + intermediate().pem).encode()})
    _, plan = lived(gateway(), resource, secrets=secrets, config_maps={"signed": signed})
    assert status(plan).issuer == "CN=Intermediate"


def test_each_member_has_its_own_request_and_upload():
    spec: dict[str, Any] = {"level": "Machine", "dnsNames": ["{member}.example.com"]}
    secrets, plan = lived(gateway(replicas=2), certificate(**spec))
    requests = {one.name: one.request for one in status(plan).members or ()}
    assert len(set(requests.values())) == 2
    entry = {
        "member": "default-1",
        "certificate": intermediate().sign(requests["default-1"]),
        "intermediates": intermediate().pem,
    }
    after, plan = lived(gateway(replicas=2), certificate(**spec, signed=[entry]), secrets=secrets)
    assert after["letterlock-cert-mx-default-0"] == secrets["letterlock-cert-mx-default-0"]
    assert after["letterlock-cert-mx-default-1"].data["tls.crt"].startswith(entry["certificate"].encode())
    for member, says in (
        ("", "names no member"),
        ("mx-0", "no member mx-0"),
        ("default-", "no member default-"),
    ):
        nobodys = certificate(**spec, signed=[{**entry, "member": member}])
        _, plan = lived(gateway(replicas=2), nobodys, secrets=secrets)
        assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "Invalid")
        assert says in condition(plan, "Certificate", "mx", "Ready").message
    gone = certificate(**spec, signed=[{**entry, "member": "default-7"}])
    _, plan = lived(gateway(replicas=2), gone, secrets=secrets)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    wrong = {**entry, "member": "default-0"}
    _, plan = lived(gateway(replicas=2), certificate(**spec, signed=[wrong]), secrets=secrets)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "KeyMismatch")
    assert condition(plan, "Certificate", "mx", "Ready").message.startswith("default-0: ")
