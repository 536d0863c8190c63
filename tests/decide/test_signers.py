"""Certificates of Kubernetes signers: asked once, taken, denied, asked again (C11)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from letterlock_api.certificate import Certificate, CertificateStatus
from letterlock_operator.decide import decide
from letterlock_operator.plan import Plan, Request
from letterlock_operator.world import Refusal, SigningRequest, Unreadable
from tests.decide.authority import intermediate
from tests.decide.builders import NOW, certificate, condition, gateway, lived, verdict, world
from tests.decide.builders import certificate_status as status

SPEC: dict[str, Any] = {"signerName": "example.com/mail", "days": 90}


def asked(plan: Plan) -> Request:
    (request,) = plan.requests
    return request


def seen(request: Request, state: str = "Pending", **more: Any) -> dict[str, SigningRequest]:
    """The request as the cluster shows it."""
    found = SigningRequest(
        request.name, request.certificate, request.member, request.attempt, "Pending", since=NOW
    )
    return {request.name: replace(found, state=state, **more)}


def first(**spec: Any) -> tuple[dict[str, Any], Request]:
    """Secrets and request of a certificate that has just been applied."""
    secrets, plan = lived(gateway(), certificate(**SPEC, **spec), requests={})
    return secrets, asked(plan)


def told(plan: Plan, **spec: Any) -> Certificate:
    """The certificate with the status that the plan has for it."""
    return certificate(**SPEC, **spec).model_copy(update={"status": status(plan)})


def at(
    secrets: Mapping[str, Any], requests: Mapping[str, SigningRequest], moment: datetime = NOW, **spec: Any
) -> tuple[dict[str, Any], Plan]:
    return lived(
        gateway(), certificate(**SPEC, **spec), secrets=dict(secrets), requests=requests, moment=moment
    )


def test_a_request_is_made_once_and_waited_for():
    secrets, request = first()
    assert (request.signer, request.seconds, request.attempt) == ("example.com/mail", 90 * 86400, 0)
    assert request.usages == ("digital signature", "server auth", "client auth")
    assert len(request.name) <= 253
    _, plan = at(secrets, seen(request))
    assert plan.requests == ()
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "AwaitingSigner")
    assert verdict(plan, "Certificate", "mx", "Issuing") == ("True", "AwaitingSigner")
    assert plan.wake is not None
    assert plan.wake - NOW <= timedelta(seconds=30)


def test_rsa_keys_may_encipher():
    _, request = first(privateKey={"algorithm": "RSA", "size": 1024})
    assert "key encipherment" in request.usages


def test_what_the_signer_signed_is_used_with_its_chain():
    secrets, request = first()
    chain = (intermediate().sign(request.request.decode()) + intermediate().pem).encode()
    after, plan = at(secrets, seen(request, "Approved", chain=chain))
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    assert status(plan).issuer == "CN=Intermediate"
    assert after["letterlock-cert-mx"].data["tls.crt"] == chain
    assert plan.requests == ()


def test_it_is_renewed_ahead_of_its_end_and_serves_meanwhile():
    secrets, request = first()
    chain = (intermediate().sign(request.request.decode()) + intermediate().pem).encode()
    secrets, plan = at(secrets, seen(request, "Approved", chain=chain))
    served = status(plan).fingerprint
    later = NOW + timedelta(days=61)
    secrets, plan = at(secrets, {}, later)
    again = asked(plan)
    assert again.name != request.name
    assert status(plan).fingerprint == served
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    assert verdict(plan, "Certificate", "mx", "Issuing") == ("True", "AwaitingSigner")
    fresh = intermediate().sign(again.request.decode(), start=later).encode()
    secrets, plan = at(secrets, seen(again, "Approved", chain=fresh), later)
    assert status(plan).fingerprint != served
    assert verdict(plan, "Certificate", "mx", "Issuing") == ("False", "Issued")


def test_a_renewal_that_is_refused_to_the_end_is_told_before_it():
    secrets, request = first()
    chain = intermediate().sign(request.request.decode(), days=90).encode()
    secrets, plan = at(secrets, seen(request, "Approved", chain=chain))
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
    for days, told_of in ((61, False), (76, True)):
        moment = NOW + timedelta(days=days)
        secrets, plan = at(secrets, {}, moment)
        refused = seen(asked(plan), "Denied", message="no more", since=moment)
        _, plan = at(secrets, refused, moment)
        assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")
        found = [one for one in status(plan).conditions if one.type == "ExpiringSoon"]
        assert bool(found) is told_of
    assert "no more" in found[0].message


def test_a_renewal_with_a_new_key_changes_both_at_once():
    rotating: dict[str, Any] = {"renewal": {"rotateKey": True}}
    secrets, request = first(**rotating)
    chain = intermediate().sign(request.request.decode()).encode()
    secrets, _ = at(secrets, seen(request, "Approved", chain=chain), **rotating)
    before = secrets["letterlock-cert-mx"].data
    later = NOW + timedelta(days=61)
    secrets, plan = at(secrets, {}, later, **rotating)
    assert secrets["letterlock-cert-mx"].data["tls.key"] == before["tls.key"], "in use until there is another"
    again = asked(plan)
    assert again.request != request.request
    fresh = intermediate().sign(again.request.decode(), start=later).encode()
    secrets, plan = at(secrets, seen(again, "Approved", chain=fresh), later, **rotating)
    after = secrets["letterlock-cert-mx"].data
    assert after["tls.key"] != before["tls.key"]
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")


@pytest.mark.parametrize(
    ("state", "reason"), [("Denied", "RequestDenied"), ("Failed", "RequestFailed")], ids=["denied", "failed"]
)
def test_a_refusal_is_said_and_asked_again_later_each_time(state: str, reason: str):
    secrets, request = first()
    moment, waits, requests = NOW, list[timedelta](), dict[str, SigningRequest]()
    for attempt in range(8):
        assert request.attempt == attempt
        requests |= seen(request, state, message="not today", since=moment)
        _, plan = at(secrets, requests, moment)
        assert verdict(plan, "Certificate", "mx", "Ready") == ("False", reason)
        assert "not today" in condition(plan, "Certificate", "mx", "Ready").message
        assert plan.requests == ()
        due = status(plan).next_attempt_time
        assert due is not None
        assert plan.wake == due
        waits.append(due - moment)
        moment = due
        _, plan = at(secrets, requests, moment)
        request = asked(plan)
    minutes = [wait / timedelta(minutes=1) for wait in waits]
    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_refused_request_that_kubernetes_has_forgotten_is_not_asked_again_early():
    secrets, request = first()
    _, plan = at(secrets, seen(request, "Denied", since=NOW))
    resource = told(plan)
    early = decide(world(gateway(), resource, secrets=secrets, requests={}), NOW + timedelta(seconds=30))
    assert early.requests == ()
    due = decide(world(gateway(), resource, secrets=secrets, requests={}), NOW + timedelta(seconds=61))
    assert asked(due).attempt == 1


def test_who_mends_the_wish_does_not_wait_for_the_refused_one():
    secrets, request = first()
    _, plan = at(secrets, seen(request, "Denied", since=NOW))
    mended = certificate(days=90, signerName="example.com/other")
    mended = mended.model_copy(
        update={
            "status": status(plan),
            "metadata": mended.metadata.model_copy(update={"generation": 4}),
        }
    )
    requests = seen(request, "Denied", since=NOW)
    after = decide(world(gateway(), mended, secrets=secrets, requests=requests), NOW)
    assert (asked(after).signer, asked(after).attempt) == ("example.com/other", 0)


def test_a_new_member_does_not_wait_for_what_was_refused_to_another():
    spec: dict[str, Any] = {"level": "Machine", "dnsNames": ["{member}.example.com"]}
    secrets, plan = lived(gateway(), certificate(**SPEC, **spec), requests={})
    refused = seen(asked(plan), "Denied", since=NOW)
    _, plan = lived(gateway(), certificate(**SPEC, **spec), secrets=secrets, requests=refused)
    resource = told(plan, **spec)
    _, plan = lived(gateway(replicas=2), resource, secrets=secrets, requests=refused)
    assert (asked(plan).member, asked(plan).attempt) == ("default-1", 0)


def test_an_answer_of_the_future_is_taken_when_its_time_comes():
    """A signer whose clock is ahead of ours: peers would not take the certificate yet."""
    secrets, request = first()
    start = NOW + timedelta(minutes=3)
    chain = intermediate().sign(request.request.decode(), start=start).encode()
    after, plan = at(secrets, seen(request, "Approved", chain=chain))
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "NotYetValid")
    assert (after, plan.wake, plan.requests) == (secrets, start, ())
    _, plan = at(secrets, seen(request, "Approved", chain=chain), start)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("True", "Issued")


def test_an_answer_for_another_key_is_a_failure_and_changes_nothing():
    secrets, request = first()
    _, other = first()
    chain = intermediate().sign(other.request.decode()).encode()
    after, plan = at(secrets, seen(request, "Approved", chain=chain))
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "RequestFailed")
    assert after == secrets


@pytest.mark.parametrize(
    ("requests", "verdict_"),
    [
        pytest.param(None, ("False", "NotSupported"), id="no cluster, no signer"),
        pytest.param(Unreadable("forbidden"), ("Unknown", "Pending"), id="not allowed to look"),
    ],
)
def test_where_nobody_can_be_asked_it_is_said(requests: Any, verdict_: tuple[str, str]):
    _, plan = lived(gateway(), certificate(**SPEC), requests=requests)
    assert verdict(plan, "Certificate", "mx", "Ready") == verdict_
    assert plan.requests == ()


def test_two_that_decide_the_same_ask_under_one_name():
    secrets, request = first()
    place = world(gateway(), certificate(**SPEC), secrets=secrets, requests={})
    assert asked(decide(place, NOW + timedelta(seconds=1))).name == request.name


def test_the_status_is_read_as_it_was_written():
    before = CertificateStatus(failed_attempts=3, next_attempt_time=NOW + timedelta(hours=1))
    secrets, _ = first()
    resource = certificate(**SPEC).model_copy(update={"status": before})
    plan = decide(
        world(gateway(), resource, secrets=secrets, requests={}, refusals=dict[str, Refusal]()), NOW
    )
    assert plan.requests == ()
    assert status(plan).next_attempt_time == before.next_attempt_time
    assert status(plan).failed_attempts == 3
