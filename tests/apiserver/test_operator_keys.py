"""Keys are made once: not after a restart, not by a second operator, never over someone else's Secret."""

import base64
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import operator
from tests.harness.quickstart import (
    CERTIFICATE,
    GATEWAY,
    QUICKSTART,
    condition,
    converged,
    holds,
    looked,
    resource,
    settled,
)
from tests.harness.waiting import until


def keys(kubectl: Kubectl) -> dict[str, tuple[str, str]]:
    """The Secrets with keys that were made here: uid and data."""
    items: list[dict[str, Any]] = kubectl.json("get", "secrets")["items"]
    return {
        one["metadata"]["name"]: (one["metadata"]["uid"], str(one["data"]))
        for one in items
        if one["metadata"]["name"].startswith("letterlock-")
    }


def test_two_operators_by_mistake_make_one_key_and_never_another(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    many = [resource("Certificate", f"mx{n}", **CERTIFICATE["spec"]) for n in range(8)]
    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "first.log"),
        operator(api_server.kubeconfig, namespace, tmp_path / "second.log"),
    ):
        kubectl.apply(GATEWAY, *many)
        seen: dict[str, tuple[str, str]] = {}

        def all_ready() -> bool:
            ready = all(holds(kubectl, f"certificates.letterlock.dev/mx{n}", "Ready") for n in range(8))
            for name, key in keys(kubectl).items():
                assert seen.setdefault(name, key) == key, f"{name} was made twice"
            return ready

        until(all_ready, what="all certificates")
        until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
        assert keys(kubectl) == seen
        assert len(seen) >= 9
    renewed = looked(kubectl)
    with operator(api_server.kubeconfig, namespace, tmp_path / "third.log"):
        until(lambda: looked(kubectl) != renewed, seconds=60, what="an operator that has looked")
        assert until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
    assert keys(kubectl) == seen


def test_a_secret_of_somebody_else_under_our_name_stays_as_it_is(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl("create", "secret", "generic", "letterlock-cert-mx", "--from-literal=precious=thing")
    before = kubectl.json("get", "secret", "letterlock-cert-mx")
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(GATEWAY, CERTIFICATE)
        until(
            lambda: (
                condition(kubectl, "certificates.letterlock.dev/mx", "Ready").get("reason") == "NameTaken"
            ),
            what="NameTaken",
        )
        assert kubectl.json("get", "secret", "letterlock-cert-mx") == before
        # Once it is out of the way, the certificate is made by itself.
        kubectl("delete", "secret", "letterlock-cert-mx")
        until(lambda: holds(kubectl, "certificates.letterlock.dev/mx", "Ready"), what="the certificate")


def test_a_changed_subject_is_signed_anew_in_the_same_secret(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    def organization() -> str:
        data = kubectl.json("get", "secret", "letterlock-cert-mx")["data"]["tls.crt"]
        return x509.load_pem_x509_certificate(base64.b64decode(data)).subject.rfc4514_string()

    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
        uid = keys(kubectl)["letterlock-cert-mx"][0]
        patch = '{"spec": {"subject": {"organization": "Example Ltd"}}}'
        kubectl("patch", "certificates.letterlock.dev/mx", "--type=merge", f"--patch={patch}")
        until(lambda: "O=Example Ltd" in organization(), what="a new certificate")
        assert keys(kubectl)["letterlock-cert-mx"][0] == uid
