"""Statuses: each the whole of what we say of a resource, written to the status subresource where it differs.

Called by `act.carry`. A condition keeps its transition time for as long as its status stays the same.
"""

import json
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from letterlock_api import conditions
from letterlock_api.base import API_VERSION
from letterlock_api.conditions import Condition
from letterlock_api.snapshot import content_hash
from letterlock_operator import api
from letterlock_operator.act import holding
from letterlock_operator.act.cluster import Cluster
from letterlock_operator.api import Object
from letterlock_operator.plan import AnyStatus
from letterlock_operator.store import revision

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """A status that differs from what stands."""

    kind: str
    name: str
    uid: str
    wanted: Object
    content: str
    """Hash of `wanted`."""


def changes(
    cluster: Cluster,
    wanted: Mapping[tuple[str, str], AnyStatus],
    under_way: Collection[str],
    reissued: Collection[str],
) -> list[Change]:
    """Which statuses are to be written. It reads, and remembers what it has looked at: it may run in a thread.

    `under_way`: resources (`Kind/name`) that another thing will be said of in a moment. Those of them that have
    no status yet wait for it: a thousand new Certificates are one status write each. `reissued`: those of which a
    key or certificate was written just now, and what uses them; they wait too, but not for long.
    """
    found: list[Change] = []
    before, cluster.memory.held = cluster.memory.held, {}
    said, nothing, objects = cluster.memory.said, (None, None), cluster.known.objects
    for key, status in wanted.items():
        kind, name = key
        observed = objects[kind].get(name)
        if observed is None:
            continue
        last = said.get(key, nothing)
        if last[0] is status and last[1] is observed:
            continue
        present: Object = observed.get("status") or {}
        if not present and f"{kind}/{name}" in under_way:
            continue
        dumped = _dumped(status, present)
        if dumped == present:
            said[key] = (status, observed)
            continue
        new = f"{kind}/{name}" in reissued
        since = holding.since(before.get(key), dumped, present, time.monotonic(), reissued=new)
        if since is not None:
            cluster.memory.held[key] = since
            continue
        # What others wrote into the status and we do not say stays, and shall not make us write again and again.
        content = content_hash(json.dumps(dumped, sort_keys=True).encode())
        if cluster.memory.settled.get((f"{kind}/status", name)) != (content, revision(observed)):
            found.append(Change(kind, name, observed["metadata"]["uid"], dumped, content))
        else:
            said[key] = (status, observed)
    return found


async def write(cluster: Cluster, change: Change) -> None:
    """Write one status. Raises api.APIError; a resource that has gone is none."""
    body = {
        "apiVersion": API_VERSION,
        "kind": change.kind,
        # The uid: a namesake that was made meanwhile is another resource.
        "metadata": {"name": change.name, "uid": change.uid},
        "status": change.wanted,
    }
    try:
        answer = await cluster.api.apply(change.kind, cluster.namespace, body, subresource="status")
    except (api.NotFound, api.Conflict):
        return
    cluster.memory.settled[f"{change.kind}/status", change.name] = (change.content, revision(answer))
    cluster.seen(change.kind, answer)


def _dumped(status: AnyStatus, present: Object) -> dict[str, Any]:
    judged = status.conditions
    before: list[Condition] = []
    for raw in cast("list[Object]", present.get("conditions") or []):
        try:
            before.append(Condition.model_validate(raw))
        except ValueError:
            _log.debug("a condition that was there is none of ours: %s", raw)
    merged = status.model_copy(update={"conditions": conditions.merged(before, judged)})
    return merged.model_dump(mode="json", by_alias=True, exclude_none=True)
