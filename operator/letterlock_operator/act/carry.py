"""Carries out one plan of one namespace, in the order that keeps members complete. Called by `reconcile`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from letterlock_api.base import API_VERSION
from letterlock_operator import api, names
from letterlock_operator.act import derived, events, keys, mounts, requests, statuses, texts
from letterlock_operator.act.cluster import Cluster, OwnerGone
from letterlock_operator.api import Object
from letterlock_operator.decide.objects import services_without_use
from letterlock_operator.plan import Ensure, Plan
from letterlock_operator.world import Keep, World

# Requests under way at once: enough to hide their latency, few enough for the API server to stay fair.
_AT_A_TIME: Final = 8
_log = logging.getLogger(__name__)


class NotCarriedOut(Exception):  # noqa: N818 - says what happened
    """Parts of a plan that the API server refused; the text names them."""


async def carry_out(
    cluster: Cluster,
    plan: Plan,
    objects: Sequence[Object],
    world: World,
    now: datetime,
    *,
    seconds: float,
    mounted: Callable[[], None],
) -> bool:
    """Do all that the plan and its derived `objects` ask for. True: decide again soon.

    `seconds`: about how long keys may be made before everything else is looked after. `mounted` is called once what
    members mount is written, before statuses are.

    What the API server refuses does not keep the rest from being done. Raises NotCarriedOut afterwards, and
    api.Unavailable at once.
    """
    refused: list[str] = []
    cluster.memory.unseen = False

    async def attempt(what: str, work: Awaitable[object]) -> None:
        try:
            await work
        except OwnerGone:
            _log.debug("%s: its owner has gone", what)
        except (api.Refused, api.Conflict, api.NotFound) as error:
            refused.append(f"{what}: {error}")

    for ensure in plan.ensures:
        await attempt(f"{ensure.kind} {ensure.name}", _ensure(cluster, ensure))
    orders = [*plan.internal, *plan.issues]
    carried = await keys.carry_out(cluster, orders, world.secrets, now, seconds)
    refused += carried.refused
    for request in plan.requests:
        await attempt(f"request to {request.signer}", requests.ask(cluster, request))
    for order in plan.retired:
        await attempt(f"Secret {order.secret}", keys.retire(cluster, order))
    await _together(
        attempt(f"{wanted['kind']} {wanted['metadata']['name']}", derived.put(cluster, wanted))
        for wanted in objects
        if not derived.rests(cluster, wanted)
    )
    for name in services_without_use(world, plan):
        await attempt(f"Service {name}", derived.remove(cluster, "Service", name))
    for gateway in world.gateways:
        internal = world.secrets.get(names.internal_secret(gateway))
        if isinstance(internal, Keep) and internal.ours:
            await attempt(f"identity of {gateway}", mounts.write_identity(cluster, gateway, internal))
    for gateway, mount in plan.mounts.items():
        members = world.members.get(gateway, ())
        await attempt(f"mount of {gateway}", mounts.write(cluster, gateway, mount, members))
    mounted()
    await _together(attempt(f"ConfigMap {one.name}", texts.put(cluster, one)) for one in plan.texts)
    # In a thread: a thousand statuses take a second to compare, and the watches shall not wait for it.
    reissued = carried.done.union(*(_users(world, owner) for owner in carried.done))
    changes = await asyncio.to_thread(statuses.changes, cluster, plan.statuses, carried.under_way, reissued)
    await _together(
        attempt(f"status of {change.kind} {change.name}", statuses.write(cluster, change))
        for change in changes
    )
    await attempt("events", events.post(cluster, plan.events, now))
    if refused:
        raise NotCarriedOut("; ".join(refused))
    return carried.again or cluster.memory.unseen


def _users(world: World, owner: str) -> Sequence[str]:
    """What uses the Certificate `owner` (`Kind/name`), and tells of it."""
    kind, _, name = owner.partition("/")
    return world.users.get(name, ()) if kind == "Certificate" else ()


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of these, some at a time. Raises what the first of them raises, once all have ended."""
    slots = asyncio.Semaphore(_AT_A_TIME)

    async def one(work: Coroutine[Any, Any, None]) -> None:
        async with slots:
            await work

    results = await asyncio.gather(*(one(work) for work in works), return_exceptions=True)
    for result in results:
        if result is not None:
            raise result


async def _ensure(cluster: Cluster, ensure: Ensure) -> None:
    body = {
        "apiVersion": API_VERSION,
        "kind": ensure.kind,
        "metadata": {"name": ensure.name},
        "spec": dict(ensure.spec),
    }
    try:
        answer = await cluster.api.create(ensure.kind, cluster.namespace, body)
    except api.Conflict:
        answer = await cluster.api.get(ensure.kind, cluster.namespace, ensure.name)
        cluster.seen(ensure.kind, answer)
    else:
        cluster.wrote(ensure.kind, answer)
