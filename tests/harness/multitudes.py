"""A namespace full of everything, on a real API server: gateways, Listeners, Certificates, DestinationControls.

Used by the test of the small one and by `make many`, the large one. All DestinationControls belong to the first
gateway, and that is the one with a real member: the hardest case. The pods of the others are never run.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, cast

from kubernetes import client

from letterlock_api.kinds import KINDS
from tests.harness import requests
from tests.harness.apiserver import ApiServer, api_client
from tests.harness.kubelet import Kubelet
from tests.harness.operators import operator
from tests.harness.quickstart import resource
from tests.harness.requests import Requests
from tests.harness.waiting import until

_GROUP: Final = ("letterlock.dev", "v1alpha1")
_CLIENTS: Final = 8
_FIRST_PORT: Final = 2000
# Passes follow each other within moments while there is anything to do.
_QUIET: Final = 4.0  # seconds
FIRST: Final = "gw-0"
OBJECT: Final = 1 << 20
"""Bytes at which the API server's store ends an object."""


@dataclass(frozen=True)
class Size:
    """How many of everything."""

    controls: int
    gateways: int
    listeners: int
    """In all; each gateway has as many."""
    certificates: int


@dataclass
class Multitude:
    """An operator with all that. Use as a context manager: what is in it is made by `fill`."""

    server: ApiServer
    namespace: str
    folder: Path
    size: Size
    _ends: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.kubectl = self.server.kubectl.within(self.namespace)
        opened = api_client(self.server.kubeconfig, connections=_CLIENTS)
        self._objects = cast("Any", client.CustomObjectsApi(self._ends.enter_context(cast("Any", opened))))
        self.process = self._ends.enter_context(
            operator(self.server.kubeconfig, self.namespace, self.folder / "operator.log")
        )
        self.kubelet = self._ends.enter_context(
            Kubelet(
                self.server.kubeconfig,
                self.namespace,
                self.folder / "members",
                only=frozenset({f"{FIRST}-0"}),
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def fill(self) -> None:
        """Make everything, as fast as the API server takes it."""
        with ThreadPoolExecutor(_CLIENTS) as pool:
            list(pool.map(self._create, self._manifests()))

    def converged(self) -> None:
        """Wait until all is decided and written, and the first gateway's member runs what belongs to it."""
        for kind, condition, wanted in self._wanted():
            self.until(
                lambda kind=kind, condition=condition, wanted=wanted: self.having(kind, condition) == wanted,
                f"{wanted} {kind} {condition}",
            )
        self.quiet()

    def quiet(self) -> Requests:
        """Wait until nothing of ours is written any more. Gives all requests until then."""
        before, since = requests.so_far(self.kubectl), time.monotonic()

        def rests() -> bool:
            nonlocal before, since
            now = requests.so_far(self.kubectl)
            if requests.written(now - before, ("letterlock.dev/status", "configmaps", "secrets")):
                before, since = now, time.monotonic()
            return time.monotonic() - since > _QUIET

        self.until(rests, "nothing more to write")
        return before

    def change(self, kind: str, name: str, spec: dict[str, Any]) -> float:
        """Change one resource, and wait until its new generation is Programmed. Gives the seconds that it took."""
        plural = KINDS[kind].PLURAL
        began = time.monotonic()
        changed = self._objects.patch_namespaced_custom_object(
            *_GROUP, self.namespace, plural, name, {"spec": spec}
        )
        generation = changed["metadata"]["generation"]

        def programmed() -> bool:
            item = self._objects.get_namespaced_custom_object(*_GROUP, self.namespace, plural, name)
            return _holds(item, "Programmed", generation)

        until(programmed, seconds=300, what=f"{kind} {name} Programmed", every=0.02)
        return time.monotonic() - began

    def having(self, kind: str, condition: str) -> int:
        """How many resources of this kind have the condition."""
        return sum(_holds(item, condition) for item in self._listed(kind))

    def until(self, seen: Callable[[], object], what: str) -> None:
        """Wait until it is seen; for long, since a multitude takes its time."""
        until(seen, seconds=900, what=what, every=0.5)

    def generations(self) -> dict[str, int]:
        """Of every StatefulSet: what changes with its pod template."""
        items = self.kubectl.json("get", "statefulsets")["items"]
        return {one["metadata"]["name"]: one["metadata"]["generation"] for one in items}

    def largest(self) -> tuple[int, str]:
        """The largest object of the namespace: its bytes as JSON, and what it is."""
        kinds = [f"{model.PLURAL}.letterlock.dev" for model in KINDS.values()]
        found: list[tuple[int, str]] = []
        for kind in (*kinds, "configmaps", "secrets", "statefulsets", "services"):
            # One list after the other, in pages: a list of all would be of hundreds of megabytes.
            for item in json.loads(self.kubectl("get", kind, "--output", "json"))["items"]:
                size = len(json.dumps(item, separators=(",", ":")))
                found.append((size, f"{item['kind']}/{item['metadata']['name']}"))
        return max(found)

    def _manifests(self) -> Iterator[dict[str, Any]]:
        size = self.size
        for number in range(size.gateways):
            yield resource("MailGateway", f"gw-{number}", replicas=1, hostname=f"mx{number}.example.com")
        for number in range(size.certificates):
            yield resource(
                "Certificate",
                f"cert-{number}",
                gatewayRef={"name": f"gw-{number % size.gateways}"},
                level="Cluster",
                dnsNames=[f"host{number}.example.com"],
                privateKey={"algorithm": "ECDSA"},
            )
        for number in range(size.listeners):
            yield resource(
                "Listener",
                f"in-{number}",
                gatewayRef={"name": f"gw-{number % size.gateways}"},
                type="Public",
                port=_FIRST_PORT + number // size.gateways,
                certificateRefs=[{"name": f"cert-{number % size.certificates}"}],
                defaultPolicy={"tls": {"mode": "Preferred"}},
                service={"type": "ClusterIP"},
                recipients=[{"match": ["example.com"], "action": "Accept"}],
            )
        for number in range(size.controls):
            yield resource(
                "DestinationControl",
                f"to-{number}",
                gatewayRef={"name": FIRST},
                domains=[f"d{number}.example", f".d{number}.example"],
                tls={"mode": ("RequiredVerify", "Preferred", "Required")[number % 3]},
            )

    def _wanted(self) -> list[tuple[str, str, int]]:
        size = self.size
        mine = size.listeners // size.gateways
        return [
            ("MailGateway", "Accepted", size.gateways),
            ("Certificate", "Ready", size.certificates),
            ("Listener", "ResolvedRefs", size.listeners),
            ("DestinationControl", "Programmed", size.controls),
            ("Listener", "Programmed", mine),
        ]

    def _create(self, manifest: dict[str, Any]) -> None:
        plural = KINDS[manifest["kind"]].PLURAL
        self._objects.create_namespaced_custom_object(*_GROUP, self.namespace, plural, manifest)

    def _listed(self, kind: str) -> Iterator[dict[str, Any]]:
        follows = ""
        while True:
            page = self._objects.list_namespaced_custom_object(
                *_GROUP, self.namespace, KINDS[kind].PLURAL, limit=1000, _continue=follows
            )
            yield from page["items"]
            follows = page["metadata"].get("continue")
            if not follows:
                return


def _holds(item: dict[str, Any], condition: str, generation: int = 0) -> bool:
    status: dict[str, list[dict[str, Any]]] = item.get("status") or {}
    return any(
        one["type"] == condition
        and one["status"] == "True"
        and one.get("observedGeneration", 0) >= generation
        for one in status.get("conditions", [])
    )
