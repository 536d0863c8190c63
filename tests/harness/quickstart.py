"""A small gateway as manifests, and how to see that an operator has taken it in. For the operator's tests."""

import json
from typing import Any

from tests.harness.apiserver import Kubectl
from tests.harness.waiting import until

API = "letterlock.dev/v1alpha1"


def resource(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """A manifest."""
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


GATEWAY = resource("MailGateway", "default", replicas=1, hostname="mx.example.com")
CERTIFICATE = resource(
    "Certificate",
    "mx",
    level="Cluster",
    subject={"commonName": "mx.example.com"},
    dnsNames=["mx.example.com"],
)
LISTENER = resource(
    "Listener",
    "inbound",
    type="Public",
    port=25,
    certificateRefs=[{"name": "mx"}],
    defaultPolicy={"tls": {"mode": "Preferred"}},
    recipients=[{"match": ["example.com"], "action": "Accept"}],
)
DESTINATION = resource(
    "DestinationControl", "partner", domains=["partner.example"], tls={"mode": "RequiredVerify"}
)
QUICKSTART = (GATEWAY, CERTIFICATE, LISTENER, DESTINATION)
RESOURCES = (
    "mailgateways.letterlock.dev/default",
    "certificates.letterlock.dev/mx",
    "listeners.letterlock.dev/inbound",
    "destinationcontrols.letterlock.dev/partner",
    "calists.letterlock.dev/system",
)
OURS = (
    "mailgateways.letterlock.dev,certificates.letterlock.dev,listeners.letterlock.dev,"
    "destinationcontrols.letterlock.dev,calists.letterlock.dev,secrets,configmaps,services,serviceaccounts,"
    "statefulsets,pods,networkpolicies,poddisruptionbudgets,leases,persistentvolumeclaims"
)


def condition(kubectl: Kubectl, what: str, kind: str) -> dict[str, Any]:
    """The condition of this type; empty where there is none (or no such resource) yet."""
    done = kubectl.run("get", what, "--output", "json")
    item: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    status: dict[str, list[dict[str, Any]]] = item.get("status") or {}
    found = [one for one in status.get("conditions", []) if one["type"] == kind]
    return found[0] if found else {}


def holds(kubectl: Kubectl, what: str, kind: str, status: str = "True") -> bool:
    """Whether the condition has this status."""
    return condition(kubectl, what, kind).get("status") == status


def programmed(kubectl: Kubectl, *resources: str) -> None:
    """Wait until members run them; none named: all of the quickstart."""
    for what in resources or RESOURCES:
        until(
            lambda what=what: holds(kubectl, what, "Programmed"),
            seconds=60,
            what=f"{what} Programmed: {condition(kubectl, what, 'Programmed')}",
        )


def converged(kubectl: Kubectl) -> None:
    """Wait until the quickstart is decided: all accepted, and the snapshot names everything."""
    for what in RESOURCES:
        until(lambda what=what: holds(kubectl, what, "Accepted"), what=f"{what} Accepted")
    until(lambda: holds(kubectl, "certificates.letterlock.dev/mx", "Ready"), what="the certificate")
    until(lambda: "partner.example" in snapshot(kubectl) and "tls-" in snapshot(kubectl), what="a snapshot")
    until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)


def snapshot(kubectl: Kubectl) -> str:
    """The data of the ConfigMap with the snapshot; empty where there is none yet."""
    done = kubectl.run("get", "configmap", "default-snapshot", "--output", "jsonpath={.data}")
    return done.stdout


def revisions(kubectl: Kubectl) -> dict[str, str]:
    """Every object of the namespace with its uid and resourceVersion; Leases aside."""
    items = kubectl.json("get", OURS)["items"]
    return {
        f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["uid"]
        + one["metadata"]["resourceVersion"]
        for one in items
        if one["kind"] != "Lease"
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """What changed between two `revisions`, but for what controllers of Kubernetes say in their own time."""
    return {
        name
        for name in before | after
        if before.get(name) != after.get(name)
        and not name.startswith(("StatefulSet/", "PodDisruptionBudget/"))
    }


def looked(kubectl: Kubectl) -> str:
    """When an operator began a pass over the namespace last: it renews its Lease first."""
    return kubectl("get", "lease", "letterlock", "--output", "jsonpath={.spec.renewTime}")


def settled(kubectl: Kubectl) -> bool:
    """Whether nothing changes during a moment that several passes of an operator would fit in."""
    before = revisions(kubectl)
    kubectl.run("wait", "--for=delete", "namespace/default", "--timeout=2s")  # passes 2 s
    return revisions(kubectl) == before
