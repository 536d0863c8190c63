"""Kubernetes Events on our resources: one per resource, reason and message, however often a plan says it.

Called by `act.carry`, and in parts by `scopes`. The name of an Event is the hash of what it says, so that a restart
of the operator says nothing twice: what stands already is a conflict, and stays as it is.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from letterlock_api.base import API_VERSION, format_time
from letterlock_api.snapshot import content_hash
from letterlock_operator import api
from letterlock_operator.act.cluster import Cluster
from letterlock_operator.api import Object
from letterlock_operator.plan import Event

# Per plan. More than that is a flood: conditions say it all, and the log has the number.
_LIMIT: Final = 50
_COMPONENT: Final = "letterlock-operator"
_log = logging.getLogger(__name__)


async def post(cluster: Cluster, events: Sequence[Event], now: datetime) -> None:
    """Post those Events that the plan before did not hold. Raises api.APIError."""
    told, first = cluster.memory.told or {}, cluster.memory.told is None
    said: dict[str, str] = {}
    posted = 0
    for event in events:
        item = cluster.known.objects[event.kind].get(event.name)
        if item is None:
            continue
        uid = item["metadata"]["uid"]
        name = name_of(event, uid)
        said[name] = event.message
        if name in told:
            continue
        if posted == _LIMIT:
            _log.warning("more than %s new Events in namespace %s at once", _LIMIT, cluster.namespace)
            said.pop(name)
            break
        posted += 1
        await _post(cluster, event, name, uid, now, repeat=not first)
    cluster.memory.told = said


async def _post(cluster: Cluster, event: Event, name: str, uid: str, now: datetime, *, repeat: bool) -> None:
    moment = format_time(now)
    involved = {"kind": event.kind, "namespace": cluster.namespace, "name": event.name, "uid": uid}
    try:
        await cluster.api.create("Event", cluster.namespace, body(event, involved, name, moment))
    except api.Conflict:
        if not repeat:
            return  # said before we were restarted
        standing = await cluster.api.get("Event", cluster.namespace, name)
        again = {"count": int(standing.get("count") or 1) + 1, "lastTimestamp": moment}
        await cluster.api.merge("Event", cluster.namespace, name, again)


def body(event: Event, involved: Object, name: str, moment: str) -> Object:
    """The Event as the API server takes it. `involved`: kind, namespace, name and uid of what it is about."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": {"apiVersion": API_VERSION, **involved},
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:1024],  # the API server's limit
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


def name_of(event: Event, uid: str) -> str:
    """The Event's name: a function of what it says, so that nothing is said twice."""
    said = content_hash(f"{uid}\0{event.type}\0{event.reason}\0{event.message}".encode())
    return f"{event.name[:200]}.{said[:16]}"
