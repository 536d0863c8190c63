"""The chart on a real API server, by the real helm: what it installs is taken, works with its own rights, and goes.

No node runs pods here: the operator runs as a process with the token of the chart's account, and so do the Jobs of
hooks (`tests/harness/charted.py`).
"""

import contextlib
import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.test_templates import EVERYTHING, RESOURCES
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.charted import deployed_operator, jobs
from tests.harness.helm import CHART, Helm, Values
from tests.harness.operators import operator
from tests.harness.quickstart import GATEWAY, LISTENER, condition, holds, resource, settled
from tests.harness.waiting import until

VALUES: Values = {key: value for key, value in RESOURCES.items() if key != "caLists"}
DEPLOYMENT = "mx-letterlock-operator"
EXAMPLE = CHART.parent / "example-values.yaml"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
# Of the Prometheus operator, whose definitions are not installed here.
FOREIGN = ("ServiceMonitor", "PrometheusRule")


@contextlib.contextmanager
def installed(helm: Helm, namespace: str, values: Values) -> Generator[Helm]:
    """The chart as release `mx` in a namespace, uninstalled on leaving."""
    there = replace(helm, namespace=namespace)
    there("install", "mx", str(CHART), values=values)
    try:
        yield there
    finally:
        there.run("uninstall", "mx", "--no-hooks", "--ignore-not-found")


def accepted(kubectl: Kubectl) -> None:
    """Wait until an operator has taken the values' resources in."""
    for what in ("mailgateways.letterlock.dev/default", "listeners.letterlock.dev/inbound"):
        until(lambda what=what: holds(kubectl, what, "Accepted"), seconds=90, what=f"{what} Accepted")
    until(
        lambda: holds(kubectl, "certificates.letterlock.dev/mx", "Ready"), seconds=90, what="the certificate"
    )
    until(lambda: bool(used_by(kubectl)), seconds=90, what="what uses the certificate")


def used_by(kubectl: Kubectl) -> str:
    return kubectl("get", "certificates.letterlock.dev/mx", "--output=jsonpath={.status.usedBy}")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="as it comes"),
        pytest.param(EVERYTHING, id="everything"),
        pytest.param({"operator": {"clusterWide": True}}, id="cluster-wide"),
        pytest.param(yaml.safe_load(EXAMPLE.read_text()), id="the example"),
    ],
)
def test_the_api_server_takes_all_that_is_rendered(helm: Helm, kubectl: Kubectl, values: Values) -> None:
    rendered = replace(helm, namespace=kubectl.namespace).template(values)
    taken = [one for one in rendered if one["kind"] not in FOREIGN]
    assert len(taken) > 8
    said = kubectl(
        "apply", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump_all(taken, sort_keys=False)
    )
    assert len(said.splitlines()) == len(taken)


def test_a_release_converges_with_its_own_rights_under_restricted_pod_security(
    api_server: ApiServer, cluster_helm: Helm, namespace: str, kubectl: Kubectl, folder: Path
) -> None:
    kubectl("label", "namespace", namespace, RESTRICTED)
    log = folder / "operator.log"
    with installed(cluster_helm, namespace, VALUES):
        with deployed_operator(api_server, namespace, DEPLOYMENT, folder, log):
            accepted(kubectl)
            until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
        said = log.read_text().lower()
        assert "forbidden" not in said
        assert "permission" not in said
        # The standard refuses pods when they are made: they were made.
        for labels, number in (("app.kubernetes.io/component=operator", 1), ("letterlock.dev/gateway", 2)):
            until(
                lambda labels=labels, number=number: (
                    len(kubectl("get", "pods", f"--selector={labels}", "--output=name").split()) == number
                ),
                what=f"pods with {labels}",
            )
        policy = kubectl.json("get", "networkpolicy", "default-members")["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        state = [one for one in policy["ingress"] if "from" in one]
        assert state[0]["from"][0]["namespaceSelector"]["matchLabels"] == {
            "kubernetes.io/metadata.name": namespace
        }


def test_admission_policies_protect_the_system_list_and_warn(
    cluster_helm: Helm, namespace: str, kubectl: Kubectl, folder: Path, api_server: ApiServer
) -> None:
    log = folder / "operator.log"
    system = "calists.letterlock.dev/system"
    with installed(cluster_helm, namespace, VALUES):
        with deployed_operator(api_server, namespace, DEPLOYMENT, folder, log):
            accepted(kubectl)
        # From here on nobody would bring the list back. Policies count a moment after they were written.
        refused = until(
            lambda: kubectl.run("delete", system, "--dry-run=server").stderr, what="a refusal", seconds=60
        )
        assert "switch it off (spec.enabled: false)" in refused
        assert kubectl.run("delete", system).returncode != 0
        whole = f"/apis/letterlock.dev/v1alpha1/namespaces/{namespace}/calists"
        assert kubectl.run("delete", "--raw", whole).returncode != 0, "nor with all the others"
        assert kubectl("get", system, "--output=name")
        kubectl("patch", system, "--type=merge", '--patch={"spec":{"enabled":false}}')
        source = {"configMapKeyRef": {"name": "ca", "key": "ca.pem"}}
        kubectl.apply(resource("CAList", "own", certificatesFrom=source))
        assert kubectl("delete", "calists.letterlock.dev/own"), "others can be deleted"

        users = json.loads(used_by(kubectl))
        said = kubectl.run("delete", "certificates.letterlock.dev/mx")
        assert said.returncode == 0, "a warning, not a refusal"
        assert f"Certificate mx is in use by {', '.join(users)}" in said.stderr
        kubectl.apply(resource("Certificate", "idle", level="Cluster", dnsNames=["idle.example.com"]))
        assert "in use" not in kubectl.run("delete", "certificates.letterlock.dev/idle").stderr

        demo = "will serve the demo certificate"
        bare = resource("Listener", "bare", type="Private", port=26)
        assert demo not in applied(kubectl, bare), "it offers no TLS"
        for offered in (
            {"defaultPolicy": {"tls": {"mode": "Required"}}},
            {"mailFlowPolicies": [{"name": "p", "behavior": "Relay", "tls": {"mode": "Preferred"}}]},
            {"protocol": "SMTPS"},
        ):
            manifest = {**bare, "spec": {**bare["spec"], **offered}}
            assert demo in applied(kubectl, manifest), offered
            named = {**manifest, "spec": {**manifest["spec"], "certificateRefs": [{"name": "mx"}]}}
            assert demo not in applied(kubectl, named), offered
        # With its namespace it goes.
        kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=90s")
        kubectl("create", "namespace", namespace)  # the fixture deletes it once more


def applied(kubectl: Kubectl, manifest: dict[str, Any]) -> str:
    """What kubectl says on stderr when the API server takes the manifest."""
    done = kubectl.run("apply", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(manifest))
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_two_releases_upgrade_and_uninstall(
    api_server: ApiServer, cluster_helm: Helm, namespace: str, kubectl: Kubectl, folder: Path
) -> None:
    log, other_log = folder / "operator.log", folder / "other.log"
    with api_server.fresh_namespace() as second, contextlib.ExitStack() as ends:
        mx = ends.enter_context(installed(cluster_helm, namespace, VALUES))
        ends.enter_context(deployed_operator(api_server, namespace, DEPLOYMENT, folder, log))
        accepted(kubectl)
        other = kubectl.within(second)
        ends.enter_context(installed(cluster_helm, second, VALUES))
        ends.enter_context(deployed_operator(api_server, second, DEPLOYMENT, folder, other_log))
        accepted(other)
        key = kubectl("get", "secret", "letterlock-cert-mx", "--output=jsonpath={.data}")
        template = "jsonpath={.spec.template}"
        pods = kubectl("get", "statefulset", "default", f"--output={template}")
        # The Job before the upgrade runs with its own account.
        with jobs(api_server, namespace, folder) as ran:
            listener = {**VALUES["listeners"][0], "name": "second", "spec": {"type": "Private", "port": 2525}}
            changed = {**VALUES, "listeners": [*VALUES["listeners"], listener]}
            mx("upgrade", "mx", str(CHART), "--timeout=120s", values=changed)
        assert [one.returncode for one in ran] == [0], ran
        assert ran[0].stdout.count(" applied: ") == 5
        until(
            lambda: holds(kubectl, "listeners.letterlock.dev/second", "Accepted"),
            seconds=60,
            what="the new one",
        )
        assert kubectl("get", "secret", "letterlock-cert-mx", "--output=jsonpath={.data}") == key
        assert kubectl("get", "statefulset", "default", f"--output={template}") == pods
        # What follows takes the operator's rights away, while here it goes on running.
        assert "forbidden" not in log.read_text().lower()
        before = other("get", "mailgateways,listeners.letterlock.dev", "--output=name")
        mx("uninstall", "mx", "--wait", "--timeout=90s")
        kinds = "letterlock,deployments,services,roles,networkpolicies,statefulsets"
        until(
            lambda: kubectl("get", kinds, "--output=name").split() == ["calist.letterlock.dev/system"],
            seconds=180,
            what="nothing left but the system's list",
        )
        assert other("get", "mailgateways,listeners.letterlock.dev", "--output=name") == before
        wide = (
            "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
        )
        names = kubectl("get", wide, "--output=name").split()
        assert not [one for one in names if f"/{namespace}-" in one]
        assert [one for one in names if f"/{second}-" in one]
        assert kubectl.run("get", "crd", "mailgateways.letterlock.dev").returncode == 0
    assert "forbidden" not in other_log.read_text().lower()


def test_of_two_operators_with_one_namespace_the_second_says_so_and_does_not_act(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, folder: Path
) -> None:
    first, second = folder / "first.log", folder / "second.log"
    with operator(api_server.kubeconfig, namespace, first, "--installation=one/mx") as serving:
        kubectl.apply(GATEWAY)
        until(lambda: holds(kubectl, "mailgateways.letterlock.dev/default", "Accepted"), what="the gateway")
        with operator(api_server.kubeconfig, namespace, second, "--installation=two/mx"):
            until(lambda: "two/mx does nothing here" in second.read_text(), what="a line in the log")
            (said,) = until(lambda: overlap(kubectl), what="an Event")
            assert said.startswith("operator two/mx does nothing here, because operator one/mx serves")
            serving.terminate()
            serving.wait(30)
            kubectl.apply(LISTENER)
            until(lambda: settled(kubectl), what="no changes", every=1.0, seconds=120)
            assert not condition(kubectl, "listeners.letterlock.dev/inbound", "Accepted")
            # Instead of waiting for the minute to pass.
            kubectl("delete", "lease", "letterlock")
            until(
                lambda: holds(kubectl, "listeners.letterlock.dev/inbound", "Accepted"),
                seconds=60,
                what="the second one, once the first has gone",
            )
    assert second.read_text().count("does nothing here") == 1


def overlap(kubectl: Kubectl) -> list[str]:
    """The Events that tell of it."""
    items = kubectl.json("get", "events", "--field-selector=reason=ServedByAnother")["items"]
    return [one["message"] for one in items]
