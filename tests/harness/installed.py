"""Letterlock on a cluster of pods: installed and removed as a user does, and a gateway to send mail through.

Used by `tests/cluster`. Everything is to be called from inside the cluster's network (`Cluster.inside`).
"""

import base64
import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.harness import apiserver, waiting
from tests.harness.apiserver import Kubectl
from tests.harness.cluster import Cluster
from tests.harness.postfix import Postfix
from tests.harness.quickstart import condition

_REPOSITORY: Final = Path(__file__).parents[2]
EXAMPLE: Final = _REPOSITORY / "examples" / "quickstart"
SYSTEM: Final = "letterlock-system"
OPERATOR: Final = "letterlock-operator"
_OPERATOR: Final = _REPOSITORY / "tests" / "cluster" / "operator.yaml"
_RBAC: Final = _REPOSITORY / "operator" / "rbac.yaml"
# Namespaces that take only pods which ask for no privilege at all.
RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
LISTENER: Final = "listeners.letterlock.dev/public"
GATEWAY: Final = "mailgateways.letterlock.dev/default"
DESTINATION: Final = "destinationcontrols.letterlock.dev/example-com"
RECEIVER_NAME: Final = "mailbox.example.com"
_ports: Iterator[int] = itertools.count(2600)


def install(cluster: Cluster) -> None:
    """CRDs, rights and the operator as a Deployment; returns once it is ready."""
    kubectl = cluster.kubectl
    kubectl.apply(_namespace(SYSTEM))
    apiserver.install_crds(cluster.server)
    system = kubectl.within(SYSTEM)
    system("apply", "--filename", str(_RBAC))
    system("apply", "--filename", "-", stdin=_OPERATOR.read_text().replace("THE-IMAGE", cluster.image))
    rolled_out(system, f"deployment/{OPERATOR}")


def uninstall(cluster: Cluster) -> None:
    """Take away what `install` made, the CRDs and so all resources of ours too."""
    system = cluster.kubectl.within(SYSTEM)
    for made in (_OPERATOR, _RBAC):
        system("delete", "--wait", "--ignore-not-found", "--filename", str(made))
    cluster.kubectl("delete", "--wait", "--ignore-not-found", "--filename", str(apiserver.CRDS))
    cluster.kubectl("delete", "--wait", "namespace", SYSTEM)


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


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}


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
def gateway(cluster: Cluster, *, replicas: int = 1) -> Generator[Mail]:
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
        kubectl.apply(*found)
        mail.wait_condition(LISTENER, "Programmed")
        mail.wait_condition(DESTINATION, "Programmed")
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
