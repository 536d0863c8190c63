"""Derived objects by server-side apply: written only where they differ, put back where others changed them.

Called by `act.carry`. An object that exists without an owner of ours stays: decisions say `NameTaken`.
"""

import contextlib
import logging
import time
from typing import Final

from letterlock_api.snapshot import content_hash
from letterlock_operator import api, observe
from letterlock_operator.act.cluster import Cluster
from letterlock_operator.act.differences import differs
from letterlock_operator.api import Object
from letterlock_operator.store import revision

# Somebody who changes our fields again and again is a program: undone this often, then once a period.
_REPAIRS: Final = 3
_REPAIR_PERIOD: Final = 600.0  # seconds
_log = logging.getLogger(__name__)


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
            return True
        known = cluster.memory.settled.get(key)
        if known is not None and known[0] == content and not _may_repair(cluster, key):
            return True
    answer = await cluster.api.apply(kind, cluster.namespace, wanted)
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
    cluster.memory.settled.pop((kind, name), None)
    _log.info("%s %s/%s deleted: nothing wants it any more", kind, cluster.namespace, name)


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
