"""Secrets with keys: created by POST or replaced by PUT with the revision seen, never applied.

Called by `act.carry`. Two operators that decide the same at once make one key between them: the second one's
request is a conflict, and it observes again. Keys are made in processes that live as long as there is work.
"""

import asyncio
import base64
import logging
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from datetime import datetime
from typing import Final

from letterlock_operator import api, issuing, names
from letterlock_operator.act.cluster import Cluster, OwnerGone
from letterlock_operator.api import Object
from letterlock_operator.plan import Issue, IssueInternal
from letterlock_operator.world import Keep, Unreadable

# Orders of one plan: so that a thousand new Certificates do not hold up everything else of their namespace.
BATCH: Final = 16
_TLS: Final = "kubernetes.io/tls"
_log = logging.getLogger(__name__)

type Order = Issue | IssueInternal


async def carry_out(
    cluster: Cluster, orders: Sequence[Order], secrets: Mapping[str, Keep | Unreadable], now: datetime
) -> bool:
    """Make what the first orders ask for. True: look and decide again, there is more or somebody was faster.

    Raises api.APIError.
    """
    if not orders:
        return False
    batch = orders[:BATCH]
    again = len(orders) > len(batch)
    # Spawned, not forked: this process has threads and open connections.
    spawning = multiprocessing.get_context("spawn")
    workers = min(len(batch), os.process_cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=spawning) as pool:
        results = await asyncio.gather(
            *(_one(cluster, order, secrets.get(order.secret), now, pool) for order in batch),
            return_exceptions=True,
        )
    for order, result in zip(batch, results, strict=True):
        match result:
            case bool():
                again |= result
            case OwnerGone():
                again = True
            case ValueError():
                _log.error("Secret %s/%s cannot be made: %s", cluster.namespace, order.secret, result)
            case BaseException():
                raise result
    return again


async def _one(
    cluster: Cluster, order: Order, present: Keep | Unreadable | None, now: datetime, pool: Executor
) -> bool:
    """Make and store one Secret. True: somebody was faster."""
    if isinstance(present, Unreadable) or (present is not None and not order.replaces):
        raise ValueError("it is there already")
    loop = asyncio.get_running_loop()
    if isinstance(order, IssueInternal):
        owner, kind = f"MailGateway/{order.gateway}", "Opaque"
        data = await loop.run_in_executor(pool, issuing.issue_internal, order.gateway, now)
    else:
        owner, kind = order.owner, _TLS
        data = await loop.run_in_executor(pool, issuing.issue, order, present, now)
    body: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind if present is None else present.type,
        "metadata": {
            "name": order.secret,
            "labels": {"app.kubernetes.io/name": "letterlock", names.MANAGED_BY: names.MANAGER},
            "ownerReferences": [cluster.owner_reference(owner)],
        },
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    try:
        if order.replaces:
            body["metadata"]["resourceVersion"] = order.replaces
            answer = await cluster.api.replace("Secret", cluster.namespace, body)
        else:
            answer = await cluster.api.create("Secret", cluster.namespace, body)
    except api.Conflict:
        _log.info("Secret %s/%s was written by someone else meanwhile", cluster.namespace, order.secret)
        cluster.seen("Secret", await cluster.api.get("Secret", cluster.namespace, order.secret))
        return True
    cluster.seen("Secret", answer)
    _log.info("Secret %s/%s written: a new certificate for %s", cluster.namespace, order.secret, owner)
    return False
