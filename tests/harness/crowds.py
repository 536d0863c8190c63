"""Many Certificates at once on a real API server, and what that costs: writes, time, memory, a busy event loop.

Used by the test of the small crowd and by `make many`, the large one.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, cast

from kubernetes import client

from tests.harness import requests, tls_programs
from tests.harness.apiserver import ApiServer, Kubectl, api_client
from tests.harness.kubelet import Kubelet
from tests.harness.operators import operator
from tests.harness.quickstart import CERTIFICATE, GATEWAY, LISTENER, condition, holds, resource
from tests.harness.waiting import until

_GROUP: Final = ("letterlock.dev", "v1alpha1")
_CLIENTS: Final = 8
_PORT: Final = 10025  # 25 in a pod


@dataclass(frozen=True)
class Writes:
    """Requests that the API server has counted, of all clients."""

    secrets_made: int
    secrets_replaced: int
    statuses: int
    """Of Certificates."""

    @classmethod
    def so_far(cls, kubectl: Kubectl) -> Self:
        """As its own metrics say."""
        counted = requests.so_far(kubectl)
        return cls(
            counted["POST", "secrets"],
            counted["PUT", "secrets"],
            requests.written(counted, ("certificates.letterlock.dev/status",)),
        )

    def since(self, before: Self) -> "Writes":
        """Those that came after `before`."""
        return Writes(
            self.secrets_made - before.secrets_made,
            self.secrets_replaced - before.secrets_replaced,
            self.statuses - before.statuses,
        )


@dataclass
class Crowd:
    """A gateway with an operator (probed), and with a real member where that is asked for."""

    server: ApiServer
    namespace: str
    folder: Path
    members: bool = False
    """Whether a member runs from the beginning."""
    _ends: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.kubectl = self.server.kubectl.within(self.namespace)
        opened = api_client(self.server.kubeconfig, connections=_CLIENTS)
        self._objects = cast("Any", client.CustomObjectsApi(self._ends.enter_context(cast("Any", opened))))
        self._probe = self.folder / "probe.json"
        self.process = self._ends.enter_context(
            operator(
                self.server.kubeconfig,
                self.namespace,
                self.folder / "operator.log",
                module="tests.harness.probed_operator",
                environment={"LOOP_PROBE": str(self._probe)},
            )
        )
        if self.members:
            self.run_members()
        self.kubectl.apply(GATEWAY, CERTIFICATE, LISTENER)
        comes = "Programmed" if self.members else "Accepted"
        self.until(lambda: holds(self.kubectl, "listeners.letterlock.dev/inbound", comes), "the listener")
        self.until(lambda: holds(self.kubectl, "certificates.letterlock.dev/mx", "Ready"), "its certificate")
        if not self.members:
            # What is said of members changes once more with the pod that nobody runs: before anything is counted.
            mx = "certificates.letterlock.dev/mx"
            self.until(
                lambda: (
                    "no member is ready yet" in condition(self.kubectl, mx, "Programmed").get("message", "")
                ),
                "a pod that nobody runs",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def run_members(self) -> None:
        """From now on, pods are run."""
        self.kubelet = self._ends.enter_context(
            Kubelet(self.server.kubeconfig, self.namespace, self.folder / "members")
        )

    def serve(self, number: int) -> None:
        """Have the listener serve certificate `number` too, and wait until it does."""
        references = [{"name": "mx"}, {"name": f"many-{number}"}]
        patch = json.dumps({"spec": {"certificateRefs": references}})
        self.kubectl("patch", "listeners.letterlock.dev/inbound", "--type=merge", f"--patch={patch}")
        name, address = f"mx{number}.example.com", self.kubelet.address("default-0")
        self.until(lambda: name in shown(address, name), f"{name} on the wire")

    def until(self, seen: Callable[[], object], what: str) -> None:
        """Wait until it is seen; for long, since many may be many."""
        until(seen, seconds=600, what=what, every=0.2)

    def make(self, count: int, first: int = 0, **spec: Any) -> None:
        """Make so many Certificates, as fast as the API server takes them. `spec`: more of it."""

        def one(number: int) -> None:
            name = f"mx{number}.example.com"
            names = {"subject": {"commonName": name}, "dnsNames": [name]}
            body = resource("Certificate", f"many-{number}", level="Cluster", **names, **spec)
            self._objects.create_namespaced_custom_object(*_GROUP, self.namespace, "certificates", body)

        with ThreadPoolExecutor(_CLIENTS) as pool:
            list(pool.map(one, range(first, first + count)))

    def certificates(self) -> list[dict[str, Any]]:
        """All Certificates of the crowd."""
        found = self._objects.list_namespaced_custom_object(*_GROUP, self.namespace, "certificates")
        return [one for one in found["items"] if one["metadata"]["name"].startswith("many-")]

    def having(self, condition: str) -> int:
        """How many have this condition."""
        return sum(_holds(item, condition) for item in self.certificates())

    def all_ready(self, count: int, **spec: Any) -> float:
        """Make `count` and wait until all of them are Ready. Gives the seconds that it took."""
        began = time.monotonic()
        self.make(count, **spec)
        self.until(lambda: self.having("Ready") == count, f"{count} certificates Ready")
        return time.monotonic() - began

    def generation(self) -> int:
        """Of the StatefulSet: what changes with its pod template."""
        return self.kubectl.json("get", "statefulset", "default")["metadata"]["generation"]

    def slowest(self) -> list[tuple[float, float, str]]:
        """The callbacks that kept the operator's loop busy for longest: seconds, its own CPU seconds, what it was."""
        return [(seconds, worked, what) for seconds, worked, what in json.loads(self._probe.read_text())]


def _holds(item: dict[str, Any], condition: str) -> bool:
    status: dict[str, list[dict[str, Any]]] = item.get("status") or {}
    return any(one["type"] == condition and one["status"] == "True" for one in status.get("conditions", []))


def shown(address: str, name: str) -> str:
    """The subject of the certificate that the member's listener shows to who asks for `name`."""
    printed = tls_programs.shown(address, _PORT, "-servername", name)
    return next((line for line in printed.splitlines() if line.startswith("subject=")), "")
