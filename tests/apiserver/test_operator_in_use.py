"""What becomes of a certificate in use: rotated by cert-manager, broken, deleted; always seen from the wire (C10, C11).

On the operator and the member that the tests of this folder share; each test has its own listener and certificate.
"""

import base64
import json
from collections.abc import Generator, Mapping
from typing import Any

import pytest
from cryptography import x509

from tests.harness.apiserver import ApiServer
from tests.harness.issued import Issued
from tests.harness.onlookers import chain, fingerprint
from tests.harness.places import Place
from tests.harness.quickstart import resource
from tests.harness.waiting import until

# As cert-manager's own CRD is named; what it checks does not matter here.
CERT_MANAGER = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "certificates.cert-manager.io"},
    "spec": {
        "group": "cert-manager.io",
        "scope": "Namespaced",
        "names": {
            "kind": "Certificate",
            "listKind": "CertificateList",
            "plural": "certificates",
            "singular": "certificate",
            "shortNames": ["cert", "certs"],
            "categories": ["cert-manager"],
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


@pytest.fixture
def cert_manager(api_server: ApiServer) -> Generator[None]:
    """Its CRD, for as long as the test runs."""
    api_server.kubectl.apply(CERT_MANAGER)
    api_server.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", "crd/certificates.cert-manager.io"
    )
    # Established is not yet served.
    until(
        lambda: api_server.kubectl.run("get", "certificates.cert-manager.io", "-A").returncode == 0,
        what="lists of its kind",
    )
    yield
    api_server.kubectl("delete", "crd", "certificates.cert-manager.io")


ROOT = Issued.make("Partner Root", ca=True, signs=True, days=(-10, 3000))
MIDDLE = Issued.make("Partner Intermediate", ROOT, ca=True, signs=True, days=(-10, 3000))


def pair() -> Issued:
    return Issued.make("mx.partner.example", MIDDLE, names=["mx.partner.example"], days=(-200, 2000))


def layout(name: str, data: Mapping[str, bytes], kind: str = "kubernetes.io/tls") -> dict[str, Any]:
    """A Secret as cert-manager writes it."""
    notes = {
        "alt-names": "mx.partner.example",
        "certificate-name": name,
        "common-name": "mx.partner.example",
        "ip-sans": "",
        "issuer-group": "cert-manager.io",
        "issuer-kind": "ClusterIssuer",
        "issuer-name": "partner",
        "uri-sans": "",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {
            "name": name,
            "annotations": {f"cert-manager.io/{key}": value for key, value in notes.items()},
            "labels": {"controller.cert-manager.io/fao": "true"},
        },
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def files(key: Issued, certificate: Issued) -> dict[str, bytes]:
    return {
        "ca.crt": ROOT.pem,
        "tls.crt": certificate.pem + MIDDLE.pem,
        "tls.key": key.key_pem,
    }


def test_a_secret_of_cert_manager_is_followed_and_what_is_broken_never_reaches_the_wire(
    place: Place, cert_manager: None
) -> None:
    kubectl, ours = place.kubectl, "certificates.letterlock.dev/partner"
    first, second, third = pair(), pair(), pair()

    def put(secret: dict[str, Any]) -> None:
        kubectl("replace", "--filename", "-", stdin=json.dumps(secret))

    kubectl("create", "--filename", "-", stdin=json.dumps(layout("partner-tls", files(first, first))))
    theirs = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "partner"},
        "spec": {"secretName": "partner-tls", "issuerRef": {"name": "partner"}},
    }
    kubectl.apply(theirs, resource("Certificate", "partner", secretRef={"name": "partner-tls"}))
    look = place.listen("partner", 2601)
    place.wait("listeners.letterlock.dev/partner", "Programmed", "True")
    presented = [x509.load_der_x509_certificate(der) for der in chain(place.address, 2601)]
    assert presented == [first.certificate, MIDDLE.certificate], "with its chain, and without the root"
    with look:
        # Rotated: a new key and certificate, in one write.
        put(layout("partner-tls", files(second, second)))
        look.until_served(fingerprint(second.der))
        place.wait("listeners.letterlock.dev/partner", "Programmed", "True")
        assert place.status(ours)["usedBy"] == ["Listener/partner"]
        rotated = len(look.seen) + 1
        # What somebody writes in several steps, or wrongly, is told and not served.
        for data, reason, says in (
            (files(third, second), "KeyMismatch", "belongs to the private key"),
            ({**files(second, second), "tls.crt": b""}, "SecretNotFound", "has no tls.crt"),
            ({**files(second, second), "tls.key": b""}, "SecretNotFound", "has no tls.key"),
            ({**files(second, second), "tls.crt": b"not yet"}, "InvalidPEM", "no certificate"),
        ):
            put(layout("partner-tls", data))
            place.wait(ours, "Ready", "False", reason, says)
            place.wait("listeners.letterlock.dev/partner", "ResolvedRefs", "False", "CertificateNotReady")
            look.looks(3)
        kubectl("delete", "secret", "partner-tls")
        place.wait(ours, "Ready", "False", "SecretNotFound", "no Secret partner-tls")
        look.looks(3)
        # While an issuance goes on, cert-manager keeps the next key in a Secret without certificate.
        kubectl(
            "create",
            "--filename",
            "-",
            stdin=json.dumps(layout("partner-tls", {"tls.key": third.key_pem}, "Opaque")),
        )
        place.wait(ours, "Ready", "False", "SecretNotFound", "has no tls.crt")
        look.looks(3)
        assert set(look.seen[rotated:]) == {fingerprint(second.der)}
        kubectl("delete", "secret", "partner-tls")
        kubectl("create", "--filename", "-", stdin=json.dumps(layout("partner-tls", files(third, third))))
        look.until_served(fingerprint(third.der))
        place.wait("listeners.letterlock.dev/partner", "Programmed", "True")
    assert look.only([fingerprint(one.der) for one in (first, second, third)]), look.failures
    # It is theirs: nothing of it was written by us, and their resource of that name is as it was.
    secret = kubectl.json("get", "secret", "partner-tls", "--show-managed-fields")
    assert {one["manager"] for one in secret["metadata"]["managedFields"]} == {"kubectl-create"}
    assert "status" not in kubectl.json("get", "certificates.cert-manager.io/partner")


def test_a_deleted_certificate_is_served_on_until_it_is_there_again(place: Place) -> None:
    kubectl, ours, listener = (
        place.kubectl,
        "certificates.letterlock.dev/gone",
        "listeners.letterlock.dev/gone",
    )
    gateway = "mailgateways.letterlock.dev/default"
    made = resource("Certificate", "gone", level="Cluster", dnsNames=["gone.example.com"])
    delivery = json.dumps({"spec": {"delivery": {"certificateRef": {"name": "gone"}}}})

    def outgoing() -> dict[str, Any]:
        data = kubectl.json("get", "configmap", "default-snapshot")["data"]["snapshot.json"]
        return json.loads(data)["delivery"]["certificate"]

    kubectl.apply(made)
    kubectl("patch", gateway, "--type=merge", f"--patch={delivery}")
    look = place.listen("gone", 2602)
    for what in (ours, listener, gateway):
        place.wait(what, "Programmed", "True")
    before = place.status(ours)
    assert before["usedBy"] == ["Listener/gone", "MailGateway/default"]
    with look:
        look.until_served(before["fingerprint"])
        presented = outgoing()
        kubectl("delete", ours)
        place.wait(listener, "ResolvedRefs", "False", "CertificateNotFound", "gone")
        place.wait(gateway, "Accepted", "False", "CertificateNotFound")
        until(
            lambda: kubectl.run("get", "secret", "letterlock-cert-gone").returncode != 0,
            seconds=90,
            what="its key to be collected",
        )
        look.looks(3)
        # A member that starts anew has it all the same.
        process = place.kubelet.pod("default-0").process
        place.kubelet.kill9("default-0")
        until(lambda: place.kubelet.pod("default-0").process is not process, seconds=60, what="a new process")
        look.until_served(before["fingerprint"])
        assert outgoing() == presented
        restarting = len(look.failures)
        kubectl.apply(made)
        place.wait(ours, "Ready", "True")
        after = until(lambda: place.status(ours).get("fingerprint"), what="a fingerprint")
        assert after != before["fingerprint"], "another key: the old one went with the resource"
        look.until_served(after)
        for what in (ours, listener, gateway):
            place.wait(what, "Programmed", "True")
        assert place.status(ours)["usedBy"] == ["Listener/gone", "MailGateway/default"]
    assert set(look.seen) == {before["fingerprint"], after}
    assert len(look.failures) == restarting, "but while the member was not there, every handshake worked"
    # One user less is told at once.
    kubectl("delete", listener)
    until(lambda: place.status(ours)["usedBy"] == ["MailGateway/default"], what="usedBy")
