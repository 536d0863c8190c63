"""What is ours is put back where others change or delete it; what is theirs is left alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import operator
from tests.harness.quickstart import QUICKSTART, RESOURCES, condition, converged, settled, snapshot
from tests.harness.waiting import until


def test_deleted_and_changed_objects_come_back(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
        for what in ("service/letterlock-inbound", "configmap/default-snapshot", "secret/default-member"):
            uid = kubectl("get", what, "--output", "jsonpath={.metadata.uid}")
            kubectl("delete", what)
            again = until(
                lambda what=what: kubectl.run("get", what, "--output", "jsonpath={.metadata.uid}").stdout,
                what=f"{what} again",
            )
            assert again != uid
        good = json.loads(snapshot(kubectl))
        patch = json.dumps({"data": {"snapshot.json": "broken"}})
        kubectl("patch", "configmap", "default-snapshot", "--type=merge", f"--patch={patch}")
        until(lambda: json.loads(snapshot(kubectl)) == good, what="the snapshot as it was")
        kubectl("delete", "calists.letterlock.dev/system")
        until(
            lambda: kubectl.run("get", "calists.letterlock.dev/system").returncode == 0,
            what="the system list again",
        )


def test_who_changes_our_fields_again_and_again_is_named_and_left_alone_for_a_while(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    gateway = "mailgateways.letterlock.dev/default"

    def port() -> int:
        return kubectl.json("get", "service", "letterlock-inbound")["spec"]["ports"][0]["targetPort"]

    def change(number: int) -> None:
        ports = [{"name": "smtp", "port": 25, "targetPort": number, "protocol": "TCP"}]
        patch = json.dumps({"spec": {"ports": ports}})
        kubectl(
            "patch",
            "service",
            "letterlock-inbound",
            "--type=merge",
            f"--patch={patch}",
            "--field-manager=meddler",
        )

    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
        good = port()
        for number in range(3):
            change(2000 + number)
            until(lambda: port() == good, what="the port as it was")
        until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
        assert not condition(kubectl, gateway, "FieldConflict")
        change(2003)
        said = until(lambda: condition(kubectl, gateway, "FieldConflict"), what="FieldConflict")
        assert "meddler keeps changing Service/letterlock-inbound" in said["message"]
        until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
        assert port() == 2003
        events = kubectl.json("get", "events", "--field-selector=reason=FieldConflict")["items"]
        assert [one["message"] for one in events] == [said["message"]]
        change(good)
        until(lambda: not condition(kubectl, gateway, "FieldConflict"), what="the warning to go")


def test_a_foreign_status_does_not_stick(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
        before = {what: kubectl.json("get", what)["status"] for what in RESOURCES}
        for what in RESOURCES:
            lie = {"status": {"conditions": [LIE], "observedGeneration": 9}}
            kubectl("patch", what, "--subresource=status", "--type=merge", f"--patch={json.dumps(lie)}")
        for what in RESOURCES:
            until(
                lambda what=what: plain(kubectl.json("get", what)["status"]) == plain(before[what]),
                what=f"the status of {what} as it was",
            )


LIE = {
    "type": "Programmed",
    "status": "True",
    "reason": "Programmed",
    "message": "says somebody",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def plain(status: dict[str, Any]) -> dict[str, Any]:
    """Without the times: a condition that was taken away is new when it is back."""
    conditions = [{**one, "lastTransitionTime": ""} for one in status["conditions"]]
    return {**status, "conditions": conditions}


@pytest.mark.parametrize(
    ("kind", "name", "manifest"),
    [
        ("service", "letterlock-inbound", {"spec": {"ports": [{"port": 2525}]}}),
        ("configmap", "default-snapshot", {"data": {"precious": "thing"}}),
        ("secret", "default-member", {"stringData": {"precious": "thing"}}),
    ],
)
def test_an_object_that_was_there_before_us_is_not_taken_over(
    api_server: ApiServer,
    namespace: str,
    kubectl: Kubectl,
    tmp_path: Path,
    kind: str,
    name: str,
    manifest: dict[str, Any],
) -> None:
    kinds = {"service": "Service", "configmap": "ConfigMap", "secret": "Secret"}
    kubectl.apply({"apiVersion": "v1", "kind": kinds[kind], "metadata": {"name": name}, **manifest})
    before = kubectl.json("get", kind, name)
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART)
        until(
            lambda: kubectl.run("get", "statefulset", "default").returncode == 0, what="the operator at work"
        )
        until(
            lambda: kubectl.run("get", "secret", "letterlock-cert-mx").returncode == 0, what="the certificate"
        )
        told = (
            "listeners.letterlock.dev/inbound" if kind == "service" else "mailgateways.letterlock.dev/default"
        )
        until(
            lambda: condition(kubectl, told, "Accepted").get("reason") == "NameTaken",
            seconds=60,
            what="NameTaken",
        )
        assert kubectl.json("get", kind, name) == before


def test_with_the_gateway_all_that_was_made_for_it_goes(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
        kubectl("delete", "mailgateways.letterlock.dev/default")
        until(
            lambda: (
                not [
                    one
                    for one in kubectl("get", "statefulsets,configmaps,secrets", "--output", "name").split()
                    if "/default" in one or "letterlock-internal" in one
                ]
            ),
            seconds=180,
            what="the garbage collector",
        )
