"""What members run of a Listener as its manifest says: decided as the operator does, for tests over sockets."""

from typing import Any

from letterlock_gateway.mount import assemble
from letterlock_gateway.running import RunningSet
from letterlock_operator.decide import decide
from letterlock_operator.plan import Mount
from tests.decide import builders


def running(mount: Mount, port: int) -> RunningSet:
    """The one listener of `mount`, on `port` of loopback."""
    [one] = mount.snapshot.listeners
    moved = mount.snapshot.model_copy(
        update={"listeners": [one.model_copy(update={"port": port, "address": "127.0.0.1"})]}
    )
    files = {**mount.tls_files, **mount.ca_files}
    return RunningSet.build(assemble(moved.encode(), files), "default-0")


def from_manifest(port: int, *, gateway: dict[str, Any] | None = None, **spec: Any) -> RunningSet:
    """A Listener `public` with this spec, of a gateway `mx.here.example` with these further fields."""
    mine = builders.gateway(**{"hostname": "mx.here.example", **(gateway or {})})
    needs_pair = "tls" in str(spec)
    if needs_pair:
        _, plan = builders.settled(mine, builders.listener(**spec))
    else:
        plan = decide(builders.world(mine, builders.listener(**spec)), builders.NOW)
    return running(plan.mounts["default"], port)
