"""Derived objects by server-side apply: written only where they differ, put back where others changed them.

Called by `act.carry`. An object that exists without an owner of ours stays: decisions say `NameTaken`.
"""

import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from letterlock_api.snapshot import content_hash
from letterlock_operator import api, names, observe
from letterlock_operator.act.cluster import Cluster
from letterlock_operator.act.differences import differs
from letterlock_operator.api import Object
from letterlock_operator.store import revision
from letterlock_operator.world import FieldConflict

# Somebody who changes our fields again and again is a program: undone this often, then once a period.
_REPAIRS: Final = 3
_REPAIR_PERIOD: Final = 600.0  # seconds
_log = logging.getLogger(__name__)


def rests(cluster: Cluster, wanted: Object) -> bool:
    """Whether the object is known to be as it shall be: it and `wanted` are what they were at the last look."""
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    return cluster.rests(kind, name, wanted, cluster.known.objects[kind].get(name))


async def put(cluster: Cluster, wanted: Object) -> bool:
    """Make the object what it shall be. `wanted` names its owner reference. False: it is not ours.

    Raises api.APIError.
    """
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    key = (kind, name)
    observed = cluster.known.objects[kind].get(name)
    content = content_hash(repr(wanted).encode())
    if observed is None:
        # The watch may lag behind, and apply would take over what others own: look once more first.
        try:
            observed = await cluster.api.get(kind, cluster.namespace, name)
        except api.NotFound:
            pass
        else:
            cluster.seen(kind, observed)
    if observed is not None:
        if not observe.is_ours(observed, cluster.known):
            return False
        if not differs(wanted, observed) or cluster.memory.settled.get(key) == (content, revision(observed)):
            cluster.quiet(kind, name, wanted, observed)
            if cluster.memory.conflicts.pop(key, None) is not None:
                cluster.memory.unseen = True  # whoever it was has put it back: that is to be said
            return True
        known = cluster.memory.settled.get(key)
        if known is not None and known[0] == content and not _may_repair(cluster, key):
            _leave_alone(cluster, key, observed)
            return True
    answer = await cluster.api.apply(kind, cluster.namespace, wanted)
    cluster.memory.conflicts.pop(key, None)
    cluster.memory.settled[key] = (content, revision(answer))
    cluster.wrote(kind, answer)
    return True


async def remove(cluster: Cluster, kind: str, name: str) -> None:
    """Delete an object that nothing wants any more, if it is there and ours. Raises api.APIError."""
    observed = cluster.known.objects[kind].get(name)
    if observed is None or not observe.is_ours(observed, cluster.known):
        return
    with contextlib.suppress(api.NotFound):
        await cluster.api.delete(kind, cluster.namespace, name, observed["metadata"]["uid"])
    cluster.memory.forget(kind, name)
    _log.info("%s %s/%s deleted: nothing wants it any more", kind, cluster.namespace, name)


def _leave_alone(cluster: Cluster, key: tuple[str, str], observed: Object) -> None:
    """Remember who keeps changing it, and for how long that stands: the next decision says so."""
    labels: Mapping[str, str] = observed["metadata"].get("labels") or {}
    conflict = FieldConflict(
        what="/".join(key),
        gateway=labels.get(names.GATEWAY_LABEL, ""),
        manager=_changed_last(observed),
        until=datetime.fromtimestamp(cluster.memory.repairs[key][0] + _REPAIR_PERIOD, UTC),
    )
    if cluster.memory.conflicts.get(key) != conflict:
        cluster.memory.conflicts[key] = conflict
        cluster.memory.unseen = True


def _changed_last(observed: Object) -> str:
    """The field manager, other than we, who wrote the object last (RFC 3339 times of one zone sort as text)."""
    others = [
        one
        for one in observed["metadata"].get("managedFields") or ()
        if one.get("manager") != api.FIELD_MANAGER and not one.get("subresource")
    ]
    return str(max(others, key=lambda one: one.get("time", ""))["manager"]) if others else "somebody"


def _may_repair(cluster: Cluster, key: tuple[str, str]) -> bool:
    """Whether to undo what somebody else did to an object whose wanted content has not changed."""
    now = time.time()
    recent = [moment for moment in cluster.memory.repairs.get(key, []) if now - moment < _REPAIR_PERIOD]
    allowed = len(recent) < _REPAIRS
    if allowed:
        recent.append(now)
        _log.warning("%s %s/%s was changed by others: put back", key[0], cluster.namespace, key[1])
    cluster.memory.repairs[key] = recent
    return allowed
