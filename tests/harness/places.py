"""A namespace with an operator and a real member, for several tests: each brings its own names and ports."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import certifi

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.certificates import Authority
from tests.harness.kubelet import Kubelet
from tests.harness.onlookers import Onlooker
from tests.harness.operators import operator
from tests.harness.ports import free_port
from tests.harness.quickstart import GATEWAY, condition, holds, resource
from tests.harness.waiting import until


@dataclass
class Place:
    """A namespace with an operator and a member."""

    kubectl: Kubectl
    kubelet: Kubelet
    public_ca: Authority
    """A CA that the operator's system list holds, beside Mozilla's."""
    health_port: int
    """Of the operator."""

    @property
    def address(self) -> str:
        return self.kubelet.address("default-0")

    def listen(self, name: str, port: int, **spec: Any) -> Onlooker:
        """A public listener with certificate `name`, and somebody who can look at it."""
        self.kubectl.apply(
            resource(
                "Listener",
                name,
                type="Public",
                port=port,
                certificateRefs=[{"name": name}],
                defaultPolicy={"tls": {"mode": "Preferred"}},
                recipients=[{"match": ["example.com"], "action": "Accept"}],
                **spec,
            )
        )
        return Onlooker(self.address, port)

    def wait(self, what: str, kind: str, status: str, reason: str = "", says: str = "") -> str:
        """Wait for the condition, with a message that holds `says`; gives the message."""

        def seen() -> dict[str, Any] | None:
            found = condition(self.kubectl, what, kind)
            fits = found.get("status") == status and reason in ("", found.get("reason"))
            return found if fits and says in found["message"] else None

        try:
            return until(seen, seconds=90, what=f"{what} {kind}={status} {reason}")["message"]
        except TimeoutError as late:
            raise TimeoutError(f"{late}; it is {condition(self.kubectl, what, kind)}") from None

    def status(self, what: str) -> dict[str, Any]:
        return self.kubectl.json("get", what).get("status") or {}

    @classmethod
    @contextmanager
    def running(cls, server: ApiServer, folder: Path) -> Generator[Self]:
        """One of its own, with one member that runs."""
        public, health_port = Authority(), free_port()
        with (
            server.fresh_namespace("place") as namespace,
            operator(
                server.kubeconfig,
                namespace,
                folder / "operator.log",
                *("--health-port", str(health_port)),
                environment={"PYTHONPATH": str(_with_root(folder, public.pem))},
            ),
            Kubelet(server.kubeconfig, namespace, folder / "members") as kubelet,
        ):
            kubectl = server.kubectl.within(namespace)
            # What waits is tried again after an hour: a test that sees it sooner sees that something made it due.
            delivery = {"retry": {"initial": "1h", "max": "1h"}, "addressFamily": "IPv4"}
            kubectl.apply({**GATEWAY, "spec": {**GATEWAY["spec"], "delivery": delivery}})
            until(
                lambda: holds(kubectl, "mailgateways.letterlock.dev/default", "Programmed"),
                seconds=90,
                what="the gateway",
            )
            yield cls(kubectl, kubelet, public, health_port)


def _with_root(folder: Path, pem: bytes) -> Path:
    """A folder with a `certifi` whose bundle holds one more root: the product has Mozilla's from there."""
    (folder / "certifi").mkdir()
    bundle = folder / "certifi" / "cacert.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + pem)
    (folder / "certifi" / "__init__.py").write_text(f"def where() -> str:\n    return {str(bundle)!r}\n")
    return folder
