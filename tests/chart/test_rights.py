"""What the accounts of an installed chart may do, by the API server's own word: what they must, and nothing beside."""

from pathlib import Path
from typing import Final

import pytest

from tests.chart.test_on_an_api_server import DEPLOYMENT, VALUES, accepted, installed
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.charted import deployed_operator
from tests.harness.helm import Helm, Values

# Verb and resource, as `kubectl auth can-i` takes them.
MUST: Final = (
    "watch mailgateways.letterlock.dev",
    "list certificates.letterlock.dev",
    "patch certificates.letterlock.dev --subresource=status",
    "create calists.letterlock.dev",
    "list secrets",
    "create secrets",
    "update secrets",
    "patch configmaps",
    "create statefulsets.apps",
    "patch services",
    "patch pods",
    "create networkpolicies.networking.k8s.io",
    "create poddisruptionbudgets.policy",
    "create events",
    "update leases.coordination.k8s.io",
    "create certificatesigningrequests.certificates.k8s.io",
)
# What would be a way to more rights, into pods and nodes, or to what users keep.
MUST_NOT: Final = (
    "* *",
    "create pods --subresource=exec",
    "get pods --subresource=exec",
    "create pods --subresource=attach",
    "create pods --subresource=portforward",
    "get pods --subresource=log",
    "patch pods --subresource=ephemeralcontainers",
    "create pods",
    "delete pods",
    "create serviceaccounts --subresource=token",
    "create roles.rbac.authorization.k8s.io",
    "patch roles.rbac.authorization.k8s.io",
    "escalate roles.rbac.authorization.k8s.io",
    "create rolebindings.rbac.authorization.k8s.io",
    "create clusterroles.rbac.authorization.k8s.io",
    "bind clusterroles.rbac.authorization.k8s.io",
    "patch clusterroles.rbac.authorization.k8s.io",
    "create clusterrolebindings.rbac.authorization.k8s.io",
    "impersonate users",
    "impersonate serviceaccounts",
    "get nodes",
    "patch nodes",
    "delete nodes",
    "get nodes --subresource=proxy",
    "delete namespaces",
    "create namespaces",
    "delete persistentvolumeclaims",
    "create persistentvolumes",
    "delete configmaps",
    "delete statefulsets.apps",
    "create deployments.apps",
    "create mailgateways.letterlock.dev",
    "patch listeners.letterlock.dev",
    "delete certificates.letterlock.dev",
    "update certificatesigningrequests.certificates.k8s.io --subresource=approval",
    "update certificatesigningrequests.certificates.k8s.io --subresource=status",
    "approve signers.certificates.k8s.io",
    "sign signers.certificates.k8s.io",
    "patch customresourcedefinitions.apiextensions.k8s.io",
    "create validatingwebhookconfigurations.admissionregistration.k8s.io",
    "delete validatingadmissionpolicies.admissionregistration.k8s.io",
)
# What it does in a namespace that it serves, and has no business with in others.
ELSEWHERE: Final = tuple(one for one in MUST if "certificatesigningrequests" not in one)


def may(kubectl: Kubectl, account: str, asked: str) -> bool:
    """Whether the account (`namespace:name`) may do what is asked in the namespace of `kubectl`."""
    done = kubectl.run("auth", "can-i", *asked.split(), f"--as=system:serviceaccount:{account}")
    answer = done.stdout.strip()
    assert answer in {"yes", "no"}, done.stderr
    return answer == "yes"


@pytest.mark.parametrize(
    ("values", "wide"),
    [
        pytest.param({}, False, id="its own namespace"),
        pytest.param({"operator": {"clusterWide": True}}, True, id="cluster-wide"),
    ],
)
def test_the_operator_may_do_its_work_and_nothing_beside(
    api_server: ApiServer, cluster_helm: Helm, namespace: str, kubectl: Kubectl, values: Values, *, wide: bool
) -> None:
    account = f"{namespace}:{DEPLOYMENT}"
    with api_server.fresh_namespace() as other, installed(cluster_helm, namespace, values):
        assert [one for one in MUST if not may(kubectl, account, one)] == []
        assert [one for one in MUST_NOT if may(kubectl, account, one)] == []
        there = kubectl.within(other)
        assert [one for one in ELSEWHERE if may(there, account, one) is not wide] == []
        assert [one for one in MUST_NOT if may(there, account, one)] == []
        assert may(kubectl, account, "list namespaces") is wide


def test_members_may_do_what_everybody_may(
    api_server: ApiServer, cluster_helm: Helm, namespace: str, kubectl: Kubectl, folder: Path
) -> None:
    with (
        installed(cluster_helm, namespace, VALUES),
        deployed_operator(api_server, namespace, DEPLOYMENT, folder, folder / "operator.log"),
    ):
        accepted(kubectl)
        pod = kubectl.json("get", "statefulset", "default")["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        account = f"{namespace}:{pod['serviceAccountName']}"
        assert account != f"{namespace}:default", "one of their own, that nobody gives rights by mistake"
        assert rights(kubectl, account) == rights(kubectl, f"{namespace}:nobody-gave-it-anything")
        assert [one for one in (*MUST, *MUST_NOT) if may(kubectl, account, one)] == []


def rights(kubectl: Kubectl, account: str) -> list[str]:
    """All that the account may do in the namespace, a line each."""
    said = kubectl("auth", "can-i", "--list", f"--as=system:serviceaccount:{account}", "--no-headers")
    return sorted(said.splitlines())
