"""The CRDs on a real API server: what it takes, what it refuses, what kubectl shows."""

from tests.harness.apiserver import Kubectl


def test_all_kinds_are_listed_by_one_category(kubectl: Kubectl) -> None:
    kubectl.apply(
        {"apiVersion": "letterlock.dev/v1alpha1", "kind": "MailGateway", "metadata": {"name": "default"}}
    )
    assert "mailgateway.letterlock.dev/default" in kubectl("get", "letterlock", "--output", "name")
