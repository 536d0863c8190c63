"""Of several operators with one Lease, one acts, and another one takes over where it ends."""

from pathlib import Path

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import operator
from tests.harness.quickstart import CERTIFICATE, GATEWAY, QUICKSTART, converged, holds
from tests.harness.waiting import until


def test_the_second_operator_waits_and_takes_over(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    lease = f"--lease={namespace}/letterlock-operator"
    with operator(api_server.kubeconfig, namespace, first, lease):
        until(lambda: "is ours" in first.read_text(), what="the first one's Lease")
        with operator(api_server.kubeconfig, namespace, second, lease):
            kubectl.apply(*QUICKSTART)
            converged(kubectl)
            assert "is ours" not in second.read_text()
            assert "written" not in second.read_text()
    holder = kubectl("get", "lease", "letterlock-operator", "--output", "jsonpath={.spec.holderIdentity}")
    assert not holder, "an operator that ends lets go of its Lease"


def test_a_killed_operator_is_replaced_when_its_lease_is_over(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    lease = f"--lease={namespace}/letterlock-operator"
    with operator(api_server.kubeconfig, namespace, second, lease) as waiting:
        until(lambda: "is ours" in second.read_text(), what="the Lease")
        waiting.kill()
        waiting.wait()
        with operator(api_server.kubeconfig, namespace, first, lease):
            kubectl.apply(GATEWAY, CERTIFICATE)
            until(
                lambda: holds(kubectl, "certificates.letterlock.dev/mx", "Ready"),
                seconds=40,
                what="the certificate, from the one that took over",
            )
        # It did not end well, and was not meant to.
        waiting.returncode = 0
