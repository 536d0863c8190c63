"""What one decision costs the operator: a gateway with 10,000 DestinationControls of two domains each, no API server.

In processor time of the deciding thread. The objects are as the API server gives them; the steps are those of a pass
(`reconcile`): objects to values, decide with the snapshot encoded, statuses compared with what stands.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from letterlock_operator.act import statuses
from letterlock_operator.act.cluster import Cluster, Memory
from letterlock_operator.decide import NOTHING, Memo, decide_again
from letterlock_operator.observe import Observer
from letterlock_operator.plan import Plan
from letterlock_operator.store import Store
from letterlock_operator.undisturbed import undisturbed
from tests.bench.report import Report
from tests.harness.quickstart import resource

_NAMESPACE: Final = "bench"
_CONTROLS: Final = 10_000
_ROUNDS: Final = 5
_TURNS: Final = 10


class _Place:
    """A namespace as the watches have shown it."""

    def __init__(self) -> None:
        self.store = Store()
        self.observer = Observer()
        self.memo: Memo = NOTHING
        self.memory = Memory()
        self._revision = 0
        self.put(resource("MailGateway", "default"))
        self.put(resource("Certificate", "mx", level="Cluster", dnsNames=["mx.example.com"]))
        references = [{"name": "mx"}]
        self.put(
            resource("Listener", "inbound", port=25, tls={"mode": "Preferred"}, certificateRefs=references)
        )
        for number in range(_CONTROLS):
            self.control(number, "Required")

    def control(self, number: int, mode: str) -> None:
        """One more, or one that is changed."""
        domains = [f"d{number}.example", f".e{number}.example"]
        self.put(resource("DestinationControl", f"to-{number}", domains=domains, tls={"mode": mode}))

    def put(self, made: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> None:
        self._revision += 1
        name = made["metadata"]["name"]
        metadata = {
            **made["metadata"],
            "namespace": _NAMESPACE,
            "uid": f"uid-{name}",
            "generation": made["metadata"]["generation"] if status else self._revision,
            "resourceVersion": str(self._revision),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        self.store.put(made["kind"], {**made, "metadata": metadata, **({"status": status} if status else {})})

    def once(self) -> dict[str, float]:
        """One decision. Milliseconds of each step."""
        took: dict[str, float] = {}

        def step[Value](what: str, work: Callable[[], Value]) -> Value:
            began = time.thread_time()
            with undisturbed():
                done = work()
            took[what] = 1000 * (time.thread_time() - began)
            return done

        now = datetime.now(UTC)
        known = self.store.namespace(_NAMESPACE).copy()
        world = step("objects to values", lambda: self.observer.world(_NAMESPACE, known, {}, {}, {}))

        def decided() -> Plan:
            plan, self.memo = decide_again(world, now, self.memo)
            return plan

        plan = step("decide", decided)
        nobody = cast("Any", None)  # no API server and no makers of keys: neither is asked
        cluster = Cluster(nobody, self.store, _NAMESPACE, self.memory, nobody)
        changes = step("statuses compared", lambda: statuses.changes(cluster, plan.statuses, (), ()))
        for one in changes:
            item = self.store.namespace(_NAMESPACE).objects[one.kind][one.name]
            self.put({key: value for key, value in item.items() if key != "status"}, one.wanted)
        return took


def measure(report: Report) -> None:
    """From nothing, after one change, and with nothing changed."""
    first = _rounds(lambda: _Place().once(), _ROUNDS)
    place = _Place()
    place.once()
    place.once()  # the statuses that were written have come back
    number = iter(range(_CONTROLS))

    def changed() -> dict[str, float]:
        place.control(next(number), "No")
        took = place.once()
        place.once()
        return took

    for what, series in (
        ("from nothing", first),
        ("after one change", _rounds(changed, _TURNS)),
        ("nothing changed", _rounds(place.once, _TURNS)),
    ):
        for step, values in series.items():
            report.series(f"{what}: {step}", values, "ms", controls=_CONTROLS)


def _rounds(run: Callable[[], dict[str, float]], number: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _ in range(number):
        for step, value in run().items():
            found.setdefault(step, []).append(value)
    return found
