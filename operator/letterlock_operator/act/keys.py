"""Secrets with keys: created by POST or replaced by PUT with the revision seen, never applied.

Called by `act.carry`. Two operators that decide the same at once make one key between them: the second one's
request is a conflict, and it observes again.
"""

import asyncio
import base64
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from letterlock_api.conditions import Reason
from letterlock_operator import api, names, orders
from letterlock_operator.act.cluster import Cluster, OwnerGone
from letterlock_operator.act.makers import Overdue
from letterlock_operator.api import Object
from letterlock_operator.decide.pems import Refused
from letterlock_operator.plan import Export, Import, Install, IssueInternal, Retire, SecretOrder
from letterlock_operator.world import Keep, Refusal, Unreadable

_TLS: Final = "kubernetes.io/tls"
_log = logging.getLogger(__name__)

type Order = SecretOrder | IssueInternal


@dataclass
class Carried:
    """What became of the orders of one plan."""

    again: bool = False
    """Look and decide again: there is more to do, or somebody was faster."""
    under_way: set[str] = field(default_factory=set[str])
    """Owners (`Kind/name`) whose orders were carried out, or wait for their turn: what is decided of them
    will be another thing in a moment."""
    done: set[str] = field(default_factory=set[str])
    """Those of them that nothing waits for: the very next decision knows what became of it."""
    refused: list[str] = field(default_factory=list[str])
    """What the API server did not take, for people."""


async def carry_out(
    cluster: Cluster,
    ordered: Sequence[Order],
    secrets: Mapping[str, Keep | Unreadable],
    now: datetime,
    seconds: float,
) -> Carried:
    """Carry out orders for about `seconds`, so that a thousand new Certificates do not hold up everything else.

    Raises api.Unavailable.
    """
    carried = Carried()
    ends = time.monotonic() + seconds
    waiting = iter(ordered)

    async def work(left: Iterator[Order]) -> None:
        for order in left:
            carried.under_way.add(orders.owner(order))
            carried.again = True
            try:
                await _one(cluster, order, secrets.get(order.secret), now)
            except OwnerGone:
                pass
            except (api.Refused, api.NotFound) as error:
                carried.refused.append(f"Secret {order.secret}: {error}")
                carried.under_way.discard(orders.owner(order))
            except (ValueError, Overdue, BrokenProcessPool) as error:
                carried.refused.append(f"Secret {order.secret} cannot be made: {error}")
                carried.under_way.discard(orders.owner(order))
            if time.monotonic() > ends:
                return

    results = await asyncio.gather(
        *(work(waiting) for _ in range(cluster.makers.at_a_time * 2)), return_exceptions=True
    )
    for result in results:
        if result is not None:
            raise result
    left = {orders.owner(order) for order in waiting}
    carried.done = carried.under_way - left
    carried.under_way |= left
    return carried


async def retire(cluster: Cluster, order: Retire) -> None:
    """Delete a Secret of ours, exactly as it was seen. Raises api.APIError; one that has gone is none."""
    stored = cluster.known.objects["Secret"].get(order.secret)
    if stored is None:
        return
    try:
        await cluster.api.delete(
            "Secret", cluster.namespace, order.secret, stored["metadata"]["uid"], order.resource_version
        )
    except api.NotFound:
        return
    _log.info("Secret %s/%s deleted: %s", cluster.namespace, order.secret, order.reason)


async def _one(cluster: Cluster, order: Order, present: Keep | Unreadable | None, now: datetime) -> None:
    """Make and store one Secret. Raises ValueError, Overdue, OwnerGone, api.APIError."""
    if isinstance(present, Unreadable) or (present is not None and not order.replaces):
        raise ValueError("it is there already")
    cluster.owner_reference(orders.owner(order))  # before the work is done
    try:
        if isinstance(order, Install):
            data = orders.data(order, present, now)  # nothing to compute
        else:
            data = await cluster.makers.run(orders.data, order, present, now)
    except Refused as refused:
        if isinstance(order, Import):
            refusal = Refusal(refused.reason, refused.message, refused.until)
            cluster.memory.refusals[order.attempt] = refusal
        return
    except Overdue:
        if isinstance(order, Import):
            problem = "it takes longer than a minute to open: export it with fewer rounds of key derivation"
            cluster.memory.refusals[order.attempt] = Refusal(Reason.INVALID_PKCS12, problem)
        raise
    await _store(cluster, order, present, data)


async def _store(cluster: Cluster, order: Order, present: Keep | None, data: Mapping[str, bytes]) -> None:
    kind = "Opaque" if isinstance(order, IssueInternal | Export) else _TLS
    body: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind if present is None else present.type,
        "metadata": {
            "name": order.secret,
            "labels": {"app.kubernetes.io/name": "letterlock", names.MANAGED_BY: names.MANAGER},
            "ownerReferences": [cluster.owner_reference(orders.owner(order))],
        },
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    if isinstance(order, Export):
        body["metadata"]["annotations"] = {names.INPUTS: order.inputs}
    try:
        if order.replaces:
            body["metadata"]["resourceVersion"] = order.replaces
            answer = await cluster.api.replace("Secret", cluster.namespace, body)
        else:
            answer = await cluster.api.create("Secret", cluster.namespace, body)
    except api.Conflict:
        _log.info("Secret %s/%s was written by someone else meanwhile", cluster.namespace, order.secret)
        cluster.seen("Secret", await cluster.api.get("Secret", cluster.namespace, order.secret))
        return
    cluster.seen("Secret", answer)
    _log.info("Secret %s/%s written for %s", cluster.namespace, order.secret, orders.owner(order))
