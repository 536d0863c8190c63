"""Statuses: each the whole of what we say of a resource, written to the status subresource where it differs.

Called by `act.carry`. A condition keeps its transition time for as long as its status stays the same.
"""

import json
import logging
from typing import Any, cast

from letterlock_api import conditions
from letterlock_api.base import API_VERSION
from letterlock_api.conditions import Condition
from letterlock_api.snapshot import content_hash
from letterlock_operator import api
from letterlock_operator.act.cluster import Cluster
from letterlock_operator.api import Object
from letterlock_operator.plan import AnyStatus
from letterlock_operator.store import revision

_log = logging.getLogger(__name__)


async def write(cluster: Cluster, kind: str, name: str, status: AnyStatus) -> None:
    """Make the resource's status `status`. Raises api.APIError; a resource that has gone is none."""
    observed = cluster.known.objects[kind].get(name)
    if observed is None:
        return
    present: Object = observed.get("status") or {}
    wanted = _dumped(status, present)
    if wanted == present:
        return
    # What others wrote into the status and we do not say stays, and shall not make us write again and again.
    key, content = (f"{kind}/status", name), content_hash(json.dumps(wanted, sort_keys=True).encode())
    if cluster.memory.settled.get(key) == (content, revision(observed)):
        return
    body = {
        "apiVersion": API_VERSION,
        "kind": kind,
        # The uid: a namesake that was made meanwhile is another resource.
        "metadata": {"name": name, "uid": observed["metadata"]["uid"]},
        "status": wanted,
    }
    try:
        answer = await cluster.api.apply(kind, cluster.namespace, body, subresource="status")
    except (api.NotFound, api.Conflict):
        return
    cluster.memory.settled[key] = (content, revision(answer))
    cluster.seen(kind, answer)


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
