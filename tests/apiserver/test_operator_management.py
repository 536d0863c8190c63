"""HTTPS management on a real API server, with the operator's own rights: its Service comes and goes, and why."""

from pathlib import Path
from typing import Any

from tests.apiserver.test_operator_rbac import as_operator
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import operator
from tests.harness.waiting import until

HASH = "$2b$10$" + "a" * 53


def gateway(**management: Any) -> dict[str, Any]:
    return {
        "apiVersion": "letterlock.dev/v1alpha1",
        "kind": "MailGateway",
        "metadata": {"name": "default"},
        "spec": {"hostname": "mx.example.com", "management": management},
    }


def test_its_service_comes_and_goes_and_its_users_are_mounted(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    def reason(of: str) -> str:
        path = f"jsonpath={{.status.conditions[?(@.type=='{of}')].reason}}"
        return kubectl("get", "mailgateway/default", "--output", path).strip()

    def services() -> list[str]:
        return kubectl("get", "services", "--output", "name").split()

    log = tmp_path / "operator.log"
    with operator(as_operator(api_server, tmp_path), namespace, log):
        kubectl.apply(gateway(https={"port": 443}, usersSecretRef={"name": "managers"}))
        until(lambda: reason("Accepted") == "SecretNotFound", what="SecretNotFound", seconds=60)
        until(lambda: reason("DemoCertificate") == "DemoCertificate", what="DemoCertificate", seconds=60)
        until(lambda: "service/default-https" in services(), what="the Service", seconds=60)
        ports = kubectl("get", "service/default-https", "--output", "jsonpath={.spec.ports[0]}")
        assert '"port":443' in ports
        assert '"targetPort":10443' in ports
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "managers"},
            "stringData": {"htpasswd": f"ada:{HASH}"},
        }
        kubectl.apply(secret)
        until(lambda: reason("Accepted") == "Accepted", what="Accepted", seconds=60)
        until(
            lambda: "users-" in kubectl("get", "secrets", "--output", "yaml"),
            what="users are mounted",
            seconds=60,
        )
        until(
            lambda: "users-" in kubectl("get", "configmap/default-snapshot", "--output", "yaml"),
            what="the snapshot that names them",
            seconds=60,
        )
        assert HASH not in kubectl("get", "configmaps", "--output", "yaml")

        kubectl.apply(gateway())
        until(lambda: "service/default-https" not in services(), what="the Service is gone", seconds=60)
        assert "service/default-members" in services()
    assert "forbidden" not in log.read_text().lower()
