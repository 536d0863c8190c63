"""Letterlock on a cluster of pods: installed and removed as a user does, and a gateway to send mail through.

Used by `tests/cluster`. Everything is to be called from inside the cluster's network (`Cluster.inside`).
"""

import base64
import contextlib
import itertools
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.harness import apiserver, programs, waiting
from tests.harness.apiserver import Kubectl
from tests.harness.cluster import Cluster
from tests.harness.helm import CHART, Helm, Values
from tests.harness.ports import wait_for_listener
from tests.harness.postfix import Postfix
from tests.harness.quickstart import condition

EXAMPLE: Final = CHART.parents[1] / "examples" / "quickstart"
SYSTEM: Final = "letterlock-system"
RELEASE: Final = "letterlock"
OPERATOR: Final = f"{RELEASE}-operator"
# Namespaces that take only pods which ask for no privilege at all.
RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
LISTENER: Final = "listeners.letterlock.dev/public"
GATEWAY: Final = "mailgateways.letterlock.dev/default"
DESTINATION: Final = "destinationcontrols.letterlock.dev/example-com"
RECEIVER_NAME: Final = "mailbox.example.com"
# What `kubectl get` must not find once a gateway has gone; and what every namespace has, with the system list.
_MADE: Final = (
    "deployments,statefulsets,pods,services,serviceaccounts,roles,configmaps,networkpolicies,poddisruptionbudgets,"
    "secrets,mailgateways.letterlock.dev,listeners.letterlock.dev,certificates.letterlock.dev,"
    "destinationcontrols.letterlock.dev,calists.letterlock.dev"
)
_KEPT: Final = {"ServiceAccount/default", "ConfigMap/kube-root-ca.crt", "CAList/system"}
_ports: Iterator[int] = itertools.count(2600)


# One operator for whatever namespaces tests make; gateways are theirs.
_VALUES: Final[Values] = {"operator": {"clusterWide": True}, "gateway": {"enabled": False}}


def install(cluster: Cluster) -> None:
    """The chart, with its definitions and an operator for all namespaces; returns once that is ready."""
    apiserver.install_foreign_crd(cluster.server)
    cluster.kubectl.apply(restricted(SYSTEM))
    _helm(cluster)("install", RELEASE, str(CHART), values=_values(cluster))
    rolled_out(cluster.kubectl.within(SYSTEM), f"deployment/{OPERATOR}")


def operators(cluster: Cluster, replicas: int) -> None:
    """Have so many operators, by an upgrade of the chart; returns once they are ready."""
    values = _values(cluster)
    _helm(cluster)(
        "upgrade",
        RELEASE,
        str(CHART),
        values={**values, "operator": {**values["operator"], "replicas": replicas}},
    )
    rolled_out(cluster.kubectl.within(SYSTEM), f"deployment/{OPERATOR}")


def _values(cluster: Cluster) -> Values:
    repository, _, tag = cluster.image.rpartition(":")
    return {**_VALUES, "image": {"repository": repository, "tag": tag}}


def _helm(cluster: Cluster) -> Helm:
    kubeconfig = cluster.kubectl.kubeconfig
    program = cluster.kubectl.program.with_name("helm")
    return Helm(
        program if program.exists() else programs.require("helm"),
        kubeconfig.parent / "helm",
        kubeconfig,
        SYSTEM,
    )


def rolled_out(kubectl: Kubectl, what: str, *, seconds: float = 180) -> None:
    """Wait until all pods of `what` are new and ready. One that keeps dying is not waited for."""

    def seen() -> bool:
        said = kubectl.run("rollout", "status", what, "--watch=false").stdout
        if (
            "successfully rolled out" in said
            or "roll out complete" in said
            or "rolling update complete" in said
        ):
            return True
        pods: list[dict[str, Any]] = kubectl.json("get", "pods")["items"]
        states = [one for pod in pods for one in pod["status"].get("containerStatuses", ())]
        if any(one["restartCount"] >= 2 and not one["ready"] for one in states):
            raise RuntimeError(f"{what} keeps dying:\n{kubectl.run('logs', '--tail=20', what).stdout}")
        return False

    try:
        waiting.until(seen, seconds=seconds, what=f"{what} rolled out", every=0.5)
    except TimeoutError as problem:
        raise TimeoutError(f"{problem}\n{kubectl.run('describe', 'pods').stdout[-3000:]}") from None


def restricted(name: str) -> dict[str, Any]:
    """A namespace that takes only pods which ask for no privilege at all."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}


def wait_nothing_left(kubectl: Kubectl, but: Collection[str] = ()) -> None:
    """Wait until the namespace holds nothing of a gateway but its spools, the system list, and `but` (Kind/name)."""

    def left() -> set[str]:
        items = kubectl.json("get", _MADE)["items"]
        return {f"{one['kind']}/{one['metadata']['name']}" for one in items} - _KEPT - {*but}

    try:
        waiting.until(lambda: not left(), seconds=180, what="nothing of ours")
    except TimeoutError as problem:
        raise TimeoutError(f"{problem}; left: {sorted(left())}") from None


@dataclass
class Mail:
    """The quickstart's gateway in a namespace of its own, listening on port 25, and where its mail goes."""

    cluster: Cluster
    kubectl: Kubectl
    receiver_port: int

    @property
    def address(self) -> str:
        """Of the Listener's Service."""
        spec = self.kubectl.json("get", "service", "letterlock-public")["spec"]
        return str(spec["clusterIP"])

    def secret(self, name: str, *keys: str) -> bytes:
        """These values of a Secret, one after the other."""
        data = self.kubectl.json("get", "secret", name)["data"]
        return b"".join(base64.b64decode(data[key]) for key in keys)

    def receiving(self) -> Postfix:
        """A Postfix that pods reach, with the certificate that the quickstart verifies. Not started yet."""
        return Postfix.receiving(
            certificate=self.secret("letterlock-cert-mailbox", "tls.key", "tls.crt"),
            domains=("example.com",),
            port=self.receiver_port,
            address=self.cluster.address,
            name=RECEIVER_NAME,
        )

    def wait_condition(self, what: str, kind: str, status: str = "True", *, seconds: float = 180) -> None:
        """Wait for a condition, and say what it is where it does not come."""
        try:
            waiting.until(
                lambda: condition(self.kubectl, what, kind).get("status") == status,
                seconds=seconds,
                what=f"{what} {kind}={status}",
            )
        except TimeoutError as problem:
            raise TimeoutError(f"{problem}; it is {condition(self.kubectl, what, kind)}") from None

    def scale(self, members: int) -> None:
        """Ask for so many members, as an autoscaler would."""
        self.kubectl("scale", GATEWAY, f"--replicas={members}")

    def pods(self) -> dict[str, dict[str, Any]]:
        """The members' pods by name."""
        selector = "letterlock.dev/gateway=default"
        items = self.kubectl.json("get", "pods", f"--selector={selector}")["items"]
        return {item["metadata"]["name"]: item for item in items}

    def ready_members(self) -> int:
        """How many members are Ready, by the gateway's own status."""
        return int(self.kubectl.json("get", GATEWAY)["status"].get("readyReplicas") or 0)


def manifests(receiver: str, port: int) -> list[dict[str, Any]]:
    """The quickstart for a cluster: port 25, and mail goes on to `receiver`."""
    found: list[dict[str, Any]] = []
    for file in sorted(EXAMPLE.glob("*.yaml")):
        for one in yaml.safe_load_all(file.read_text()):
            if one["kind"] == "Listener":
                one["spec"]["port"] = 25
            for route in one["spec"].get("routes", ()):
                route |= {"host": receiver, "port": port}
            found.append(one)
    return found


@contextlib.contextmanager
def gateway(
    cluster: Cluster, *, replicas: int = 1, retry: Mapping[str, str] | None = None
) -> Generator[Mail]:
    """A namespace with the quickstart in it, Programmed. It is deleted on leaving."""
    with cluster.server.fresh_namespace("mail") as name:
        kubectl = cluster.kubectl.within(name)
        kubectl("label", "namespace", name, *(f"{key}={value}" for key, value in RESTRICTED.items()))
        port = next(_ports)
        receiver = cluster.address
        if cluster.domain_addresses is not None:
            receiver = f"{name}.receivers.example.com"
            cluster.resolve(receiver, cluster.address)
        mail = Mail(cluster, kubectl, port)
        found = manifests(receiver, port)
        for one in found:
            if one["kind"] == "MailGateway":
                one["spec"]["replicas"] = replicas
                if retry is not None:
                    one["spec"].setdefault("delivery", {})["retry"] = dict(retry)
        kubectl.apply(*found)
        mail.wait_condition(LISTENER, "Programmed")
        mail.wait_condition(DESTINATION, "Programmed")
        wait_for_listener(
            25, mail.address
        )  # kube-proxy hears of a Ready pod within a second, as everybody else
        try:
            yield mail
        except BaseException:
            # pytest shows it with the failure.
            print(
                kubectl.run(
                    "logs", "--selector=letterlock.dev/gateway=default", "--tail=40", "--prefix"
                ).stdout
            )
            raise
