"""Pods as members to ask: what their kubelets say of them. Used by `reconcile`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from letterlock_operator.api import Object
from letterlock_operator.following import Target

# Every container waits like this before it runs for the first time.
_BEGINNING: Final = frozenset({"ContainerCreating", "PodInitializing"})


def target(pod: Object) -> Target:
    """The pod as a member to ask."""
    status: dict[str, Any] = pod.get("status") or {}
    ready = any(
        one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or ()
    )
    metadata = pod["metadata"]
    containers: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or ()
    return Target(
        name=metadata["name"],
        uid=metadata["uid"],
        address=str(status.get("podIP") or ""),
        ready=ready and not metadata.get("deletionTimestamp"),
        leaving=bool(metadata.get("deletionTimestamp")),
        started=any(_started(one) for one in containers),
        restarts=sum(int(one.get("restartCount") or 0) for one in containers),
        halted=next((text for one in containers if (text := _halted(one))), ""),
    )


def gateway_of(pod: Object) -> str:
    """The gateway whose StatefulSet made the pod; empty: none did."""
    made = (
        str(reference.get("name"))
        for reference in pod["metadata"].get("ownerReferences") or ()
        if reference.get("controller") and reference.get("kind") == "StatefulSet"
    )
    return next(made, "")


def _started(container: Mapping[str, Any]) -> bool:
    """Whether the container runs, or ran before, by its kubelet's word."""
    states = {*(container.get("state") or ()), *(container.get("lastState") or ())}
    return bool(container.get("restartCount")) or not states.isdisjoint({"running", "terminated"})


def _halted(container: Mapping[str, Any]) -> str:
    """Why the container does not run, by its kubelet's word; empty: it runs, or is about to."""
    state: Mapping[str, Any] = container.get("state") or {}
    waiting: Mapping[str, Any] = state.get("waiting") or {}
    before: Mapping[str, Any] = container.get("lastState") or {}
    ended: Mapping[str, Any] = state.get("terminated") or before.get("terminated") or {}
    found: list[str] = []
    if waiting.get("reason") and waiting["reason"] not in _BEGINNING:
        found.append(f"its container waits: {waiting['reason']}")
    if ended and "running" not in state:
        why = ended.get("reason") or "no reason given"
        found.append(f"its container ended with {ended.get('exitCode', '?')}: {why}")
    return "; ".join(found)
