"""The operator on a real API server: manifests become objects and statuses, then nothing moves any more."""

import base64
import json
from pathlib import Path

from cryptography import x509

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import operator
from tests.harness.quickstart import (
    CERTIFICATE,
    DESTINATION,
    GATEWAY,
    LISTENER,
    OURS,
    QUICKSTART,
    changed,
    condition,
    converged,
    holds,
    looked,
    revisions,
    settled,
    snapshot,
)
from tests.harness.waiting import until


def test_manifests_become_a_certificate_a_snapshot_and_members(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
        keys = kubectl.json("get", "secret", "letterlock-cert-mx")
        made = x509.load_pem_x509_certificate(base64.b64decode(keys["data"]["tls.crt"]))
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["mx.example.com"]
        assert [one["kind"] for one in keys["metadata"]["ownerReferences"]] == ["Certificate"]
        assert until(lambda: kubectl.run("get", "pod", "default-0").returncode == 0, what="a pod")
        assert kubectl("get", "service", "letterlock-inbound", "default-members", "--output", "name")
        # Nobody runs the pod here: nothing may claim to be programmed.
        assert holds(kubectl, "listeners.letterlock.dev/inbound", "Programmed", "False")
        mounted = kubectl.json("get", "secret", "default-member")["data"]
        assert set(mounted) == {"member-tls.pem", "member-ca.pem"}


def test_the_snapshot_is_complete_among_the_mounted_files(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
    stateful_set = kubectl.json("get", "statefulset", "default")
    volumes = stateful_set["spec"]["template"]["spec"]["volumes"]
    sources = [source for one in volumes for source in one.get("projected", {}).get("sources", [])]
    there: set[str] = set()
    for source in sources:
        kind = "secret" if "secret" in source else "configMap"
        assert source[kind]["optional"] is True
        done = kubectl.run("get", kind, source[kind]["name"], "--output", "json")
        if done.returncode == 0:
            there |= set(json.loads(done.stdout).get("data") or {})
    files = json.loads(json.loads(snapshot(kubectl))["snapshot.json"])["files"]
    assert files
    assert set(files) <= there
    assert {"snapshot.json", "member-tls.pem", "member-ca.pem"} <= there


def test_a_restart_changes_nothing_and_nothing_of_the_framework_is_left_on_objects(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with operator(api_server.kubeconfig, namespace, tmp_path / "first.log"):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
        before = revisions(kubectl)
        events = kubectl("get", "events", "--output", "name")
    renewed = looked(kubectl)
    with operator(api_server.kubeconfig, namespace, tmp_path / "second.log"):
        kubectl("label", "certificates.letterlock.dev/mx", "touched=yes")
        until(lambda: looked(kubectl) != renewed, seconds=60, what="an operator that has looked")
        until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
        after = revisions(kubectl)
        assert kubectl("get", "events", "--output", "name") == events
    # The label is the only change.
    assert changed(before, after) == {"Certificate/mx"}
    for one in kubectl.json("get", OURS)["items"]:
        text = json.dumps(one["metadata"])
        assert "kopf" not in text, text
        if not one["metadata"].get("deletionTimestamp") and one["kind"] != "PersistentVolumeClaim":
            assert "finalizers" not in one["metadata"], text


def test_resources_that_come_in_any_order_end_up_the_same(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(LISTENER, DESTINATION)
        until(
            lambda: (
                condition(kubectl, "listeners.letterlock.dev/inbound", "Accepted").get("reason")
                == "GatewayNotFound"
            ),
            what="a listener without its gateway",
        )
        kubectl.apply(CERTIFICATE)
        kubectl.apply(GATEWAY)
        converged(kubectl)
