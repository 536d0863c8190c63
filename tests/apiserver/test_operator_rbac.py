"""operator/rbac.yaml is enough for the operator's whole work, and gives it no more than it names."""

from dataclasses import replace
from pathlib import Path

import yaml

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import operator
from tests.harness.quickstart import QUICKSTART, converged

RBAC = Path(__file__).parents[2] / "operator" / "rbac.yaml"
ACCOUNT = ("letterlock-operator", "letterlock-system")


def as_operator(api_server: ApiServer, folder: Path) -> Path:
    """A kubeconfig with the rights of rbac.yaml only."""
    name, home = ACCOUNT
    admin = api_server.kubectl
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    admin.within(home)("apply", "--filename", str(RBAC))
    token = admin.within(home)("create", "token", name).strip()
    kubeconfig = yaml.safe_load(api_server.kubeconfig.read_text())
    kubeconfig["users"] = [{"name": "admin", "user": {"token": token}}]
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    return file


def test_the_operator_converges_with_these_rights(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    log = tmp_path / "operator.log"
    with operator(as_operator(api_server, tmp_path), namespace, log):
        kubectl.apply(*QUICKSTART)
        converged(kubectl)
    assert "forbidden" not in log.read_text().lower()


def test_it_may_not_read_logs_run_programs_or_approve_its_own_requests(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = as_operator(api_server, tmp_path)
    asked = replace(api_server.kubectl, kubeconfig=kubeconfig, namespace=namespace)
    refused = (
        ("get", "pods", "--subresource=log"),
        ("create", "pods", "--subresource=exec"),
        ("delete", "configmaps"),
        ("delete", "certificates.letterlock.dev"),
        ("update", "certificatesigningrequests", "--subresource=approval"),
        ("update", "certificatesigningrequests", "--subresource=status"),
        ("get", "nodes"),
    )
    for what in refused:
        done = asked.run("auth", "can-i", *what)
        assert done.stdout.strip() == "no", what
