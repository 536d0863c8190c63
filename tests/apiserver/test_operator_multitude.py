"""One change among many: a handful of writes, whatever else there is in the namespace.

A multitude as large as people have, with its times and memory, is `make many`.
"""

from typing import Any

import pytest

from tests.harness.apiserver import ApiServer
from tests.harness.multitudes import OBJECT, Multitude, Size
from tests.harness.requests import WRITES

SIZE = Size(controls=500, gateways=5, listeners=50, certificates=50)
STATUSES = 5
# What one change may write beside statuses: the snapshot and what lies beside it, the note at the member's pod that
# hurries its kubelet, Events, Leases; and the change itself.
OURS = frozenset({"configmaps", "secrets", "pods", "events", "leases.coordination.k8s.io"})
# What others write then: the stand-in kubelet, and controllers of Kubernetes that see the pod change.
THEIRS = frozenset({"pods/status", "endpoints", "endpointslices.discovery.k8s.io"})
# Seconds that a status is held back for a member's answer (act/holding.py).
_HELD = 5.0
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("DestinationControl", "to-7", {"tls": {"mode": "No"}}),
    ("Listener", "in-0", {"maxConcurrency": 77}),
    # And with it the Listener that serves it.
    ("Certificate", "cert-5", {"days": 100}),
]


@pytest.fixture(scope="module")
def multitude(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All of it, at rest."""
    with (
        api_server.fresh_namespace() as namespace,
        Multitude(api_server, namespace, tmp_path_factory.mktemp("multitude"), SIZE) as made,
    ):
        made.fill()
        made.converged()
        yield made


@pytest.mark.parametrize(("kind", "name", "spec"), CHANGES, ids=[kind for kind, _, _ in CHANGES])
def test_one_change_is_at_most_five_status_writes_and_restarts_nobody(
    multitude: Multitude, kind: str, name: str, spec: dict[str, Any]
) -> None:
    before, generations = multitude.quiet(), multitude.generations()
    process = multitude.kubelet.pod("gw-0-0").process
    took = multitude.change(kind, name, spec)
    made = multitude.quiet() - before
    writes = {what: count for what, count in made.items() if what[0] in WRITES}
    statuses = {what: count for what, count in writes.items() if what[1].endswith("letterlock.dev/status")}
    # Who waits longer for a member than a status is held back (act/holding.py) is told of that, too.
    assert sum(statuses.values()) <= STATUSES + (took > _HELD), (statuses, took)
    plural = f"{kind.lower()}s.letterlock.dev"
    assert {what for _, what in writes.keys() - statuses.keys()} <= {*OURS, *THEIRS, plural}, writes
    assert multitude.generations() == generations
    assert multitude.kubelet.pod("gw-0-0").process is process


def test_no_object_comes_near_to_what_the_store_takes(multitude: Multitude) -> None:
    size, what = multitude.largest()
    assert size < OBJECT, what
