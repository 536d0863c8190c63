"""Observe, decide, act: one pass at a time per namespace, as often as something changed. Started by `main`.

Events only mark a namespace; many marks become one pass. A pass that fails is tried again, later each time.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from letterlock_api.kinds import KINDS
from letterlock_api.mailgateway import MailGatewayStatus
from letterlock_api.snapshot import content_hash
from letterlock_operator import api, metrics, names, observe, pods
from letterlock_operator.act import carry, holding, requests
from letterlock_operator.act.cluster import Cluster, Memory
from letterlock_operator.act.makers import Makers
from letterlock_operator.api import Object
from letterlock_operator.decide.objects import NOTHING as UNDERIVED
from letterlock_operator.decide.objects import Derived
from letterlock_operator.decide.whole import NOTHING as UNDECIDED
from letterlock_operator.decide.whole import Memo
from letterlock_operator.following import Following, Wanted
from letterlock_operator.plan import Plan
from letterlock_operator.scopes import Scopes
from letterlock_operator.store import WATCHED, NamespaceStore, Store
from letterlock_operator.undisturbed import undisturbed
from letterlock_operator.world import Keep, SigningRequest, Unreadable, World

type Decide = Callable[[World, datetime, Memo], tuple[Plan, Memo]]
type Derive = Callable[[World, Plan, Derived], Derived]

# Marks that come together become one pass: `kubectl apply -f folder` is a dozen events within this time.
_COALESCE: Final = 0.05
_BACKOFF: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# Everything is listed anew after this time: a watch that starts over does not say what was deleted meanwhile.
_RELIST: Final = 600.0
# The same for the watches' own first lists, which may be older or newer than ours.
_FIRST_RELIST: Final = 15.0
# Whether a namespace that another installation serves has new gateways to tell so.
_LOOK_AT_OTHERS: Final = 15.0
# Its Lease could not be written: that takes as long as the API server is away.
_TRY_AGAIN: Final = 2.0
# Keys are made for so long before all else is looked after; longer where looking at all else takes long itself.
_MAKING: Final = 1.0
_SELECTORS: Final = {"Pod": {"labelSelector": names.POD_SELECTOR}}
SECRETS_LEFT_OUT: Final = (
    "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=bootstrap.kubernetes.io/token"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lying:
    """What has to be known of a snapshot in place; a large one takes long to unpack."""

    item: Object
    """The ConfigMap that it was read from."""
    hash: str
    """Empty: there is none in it."""
    names_members: bool
    """Whether it says who may take mail."""


@dataclass
class _Pass:
    """What one pass over a namespace leaves for the next; without it, the next one takes longer."""

    memo: Memo = UNDECIDED
    derived: Derived = UNDERIVED
    memory: Memory = field(default_factory=Memory)
    lying: dict[str, Lying] = field(default_factory=dict[str, Lying])
    """By gateway: its snapshot in place."""


class Reconciler:
    """All namespaces. `mark` may be called at any time, from the loop's own thread."""

    def __init__(
        self,
        client: api.API,
        decide: Decide,
        derive: Derive,
        installation: str,
        may_act: asyncio.Event | None = None,
    ) -> None:
        """`installation`: who we are among operators. `may_act`: passes begin only while it is set; None: always."""
        self._api = client
        self._scopes = Scopes(client, installation, self.mark)
        self._may_act = may_act
        self._decide = decide
        self._derive = derive
        self._store = Store()
        self._observer = observe.Observer()
        self._following = Following(client, self.mark)
        self._makers = Makers()
        self._marked: dict[str, asyncio.Event] = {}
        self._passes: dict[str, _Pass] = {}
        self._relist_at: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.metrics = metrics.metrics()
        """What this operator counts."""

    def received(self, kind: str, happened: str | None, item: Object) -> None:
        """Take in what a watch has shown. `happened`: ADDED, MODIFIED, DELETED, or None in a first list."""
        change = self._store.remove if happened == "DELETED" else self._store.put
        if change(kind, item):
            self.mark(item["metadata"]["namespace"])

    def mark(self, namespace: str) -> None:
        """Something in the namespace may have changed: decide about it again."""
        if namespace not in self._tasks:
            self._marked[namespace] = asyncio.Event()
            task = asyncio.create_task(self._serve(namespace), name=f"namespace {namespace}")
            self._tasks[namespace] = task
        self._marked[namespace].set()

    async def close(self) -> None:
        """Stop after the requests that are under way."""
        self._following.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._scopes.close()
        self._makers.close()

    async def _serve(self, namespace: str) -> None:
        marked = self._marked[namespace]
        failures = 0
        wait: float | None = None
        while True:
            if failures:
                # Marks that come meanwhile wait too: what failed a moment ago fails again.
                await asyncio.sleep(wait or 0)
            else:
                try:
                    async with asyncio.timeout(wait):
                        await marked.wait()
                except TimeoutError:
                    pass
            await asyncio.sleep(_COALESCE)
            marked.clear()
            try:
                wait = await self._once(namespace)
                failures = 0
            except (api.APIError, carry.NotCarriedOut) as error:
                wait = self._backoff(namespace, failures)
                failures += 1
                self.metrics.count("letterlock_operator_failures_total")
                level = logging.INFO if isinstance(error, api.Conflict) else logging.WARNING
                _log.log(level, "namespace %s: %s; trying again in %s s", namespace, error, wait)
            except Exception:  # noqa: BLE001 - a mistake in one namespace must not end the service of the others
                wait = self._backoff(namespace, failures)
                failures += 1
                self.metrics.count("letterlock_operator_failures_total")
                _log.exception("namespace %s: trying again in %s s", namespace, wait)

    def _backoff(self, namespace: str, failures: int) -> float:
        """Seconds until a pass that failed is tried again. What waits to be said does not wait for what is refused."""
        left = self._passes.get(namespace)
        held = holding.ends_in(left.memory.held) if left is not None else _BACKOFF[-1]
        return min(_BACKOFF[min(failures, len(_BACKOFF) - 1)], max(held, _BACKOFF[0]))

    async def _once(self, namespace: str) -> float | None:
        """One pass. Gives the seconds until the next one is due even if nothing happens."""
        if self._may_act is not None:
            await self._may_act.wait()
        known = self._store.namespace(namespace)
        ours = await self._scopes.ours(namespace)
        if ours:
            await self._list(namespace)
        if not any(known.objects[kind] for kind in KINDS):
            await self._following.members(namespace, {})
            self._store.forget(namespace)
            self._observer.forget(namespace)
            self._scopes.forget(namespace)
            self._passes.pop(namespace, None)
            self._relist_at.pop(namespace, None)
            metrics.forget(self.metrics, namespace, {})
            return None
        if not ours:
            taken = await self._scopes.tell(namespace, list(known.objects["MailGateway"].values()))
            return _LOOK_AT_OTHERS if taken else _TRY_AGAIN
        left = self._passes.setdefault(namespace, _Pass())
        memory = left.memory
        members = await self._following.members(namespace, wanted(known, left.lying))
        asked: Mapping[str, SigningRequest] | Unreadable = {}
        if any(item.get("spec", {}).get("signerName") for item in known.objects["Certificate"].values()):
            asked = await requests.observed(self._api, namespace)
        claims = await claimed(self._api, namespace, known, left.lying)
        now = datetime.now(UTC)
        frozen, started = known.copy(), time.monotonic()
        conflicts = tuple(one for one in memory.conflicts.values() if one.until > now)

        @undisturbed()
        def decided() -> tuple[World, Plan, Sequence[Object]]:
            world = self._observer.world(
                namespace,
                frozen,
                members,
                asked,
                dict(memory.refusals),
                claims=claims,
                conflicts=conflicts,
            )
            plan, left.memo = self._decide(world, now, left.memo)
            left.derived = self._derive(world, plan, left.derived)
            return world, plan, left.derived.objects

        # In a thread: thousands of resources take a second, and the watches, polls and the Lease go on meanwhile.
        world, plan, objects = await asyncio.to_thread(decided)
        self._measured(namespace, plan, time.monotonic() - started)
        cluster = Cluster(self._api, self._store, namespace, memory, self._makers)
        seconds = max(_MAKING, 2 * (time.monotonic() - started))
        again = await carry.carry_out(
            cluster,
            plan,
            objects,
            world,
            now,
            seconds=seconds,
            mounted=lambda: self._following.mounted(namespace, wanted(cluster.known, left.lying)),
        )
        if again:
            self.mark(namespace)
        due = self._relist_at[namespace] - time.monotonic()
        if plan.wake is not None:
            due = min(due, (plan.wake - now).total_seconds())
        return max(min(due, holding.ends_in(memory.held)), _COALESCE)

    def _measured(self, namespace: str, plan: Plan, seconds: float) -> None:
        gateways = {
            name: status
            for (_, name), status in plan.statuses.items()
            if isinstance(status, MailGatewayStatus)
        }
        self.metrics.count("letterlock_operator_decisions_total")
        self.metrics.count("letterlock_operator_decision_seconds_total", seconds)
        metrics.tell(self.metrics, namespace, gateways)
        metrics.forget(self.metrics, namespace, gateways)

    async def _list(self, namespace: str) -> None:
        """List everything, if not done lately. Nothing is decided on a world with holes."""
        due = self._relist_at.get(namespace)
        if due is not None and time.monotonic() < due:
            return
        for kind in WATCHED:
            selectors = dict(_SELECTORS.get(kind, {}))
            if kind == "Secret":
                selectors["fieldSelector"] = SECRETS_LEFT_OUT
            items, revision = await self._api.list(kind, namespace, **selectors)
            self._store.replace(namespace, kind, items, revision)
        if namespace in self._passes:
            self._passes[namespace].memory.keep_only(self._store.namespace(namespace).objects)
        self._relist_at[namespace] = time.monotonic() + (_FIRST_RELIST if due is None else _RELIST)


def wanted(known: NamespaceStore, lying: dict[str, Lying]) -> dict[str, Wanted]:
    """By gateway: its pods, the snapshot that they have mounted, and how to ask them. Brings `lying` up to date."""
    found: dict[str, Wanted] = {}
    members: dict[str, list[Object]] = {}
    for pod in known.objects["Pod"].values():
        members.setdefault(pods.gateway_of(pod), []).append(pod)
    for gateway in known.objects["MailGateway"]:
        lies = known.objects["ConfigMap"].get(names.snapshot_config_map(gateway))
        if lies is None:
            lying.pop(gateway, None)
        elif gateway not in lying or lying[gateway].item is not lies:
            content = observe.snapshot_in(lies)
            hashed = content_hash(content) if content else ""
            lying[gateway] = Lying(lies, hashed, observe.names_members(content))
        internal = known.objects["Secret"].get(names.internal_secret(gateway))
        identity = observe.secret(internal, known) if internal is not None else None
        found[gateway] = Wanted(
            targets=tuple(
                sorted(map(pods.target, members.get(gateway, [])), key=lambda one: (len(one.name), one.name))
            ),
            snapshot=lying[gateway].hash if lies is not None else "",
            identity=identity if isinstance(identity, Keep) and identity.ours else None,
        )
    return found


async def claimed(
    client: api.API, namespace: str, known: NamespaceStore, lying: Mapping[str, Lying]
) -> frozenset[str] | None:
    """Claims of spool volumes, where a gateway's snapshot does not say who may take mail (yet); None: not needed.

    None as well where they may not be listed: then everybody may hold mail. Raises api.Unavailable.
    """
    if all(gateway in lying and lying[gateway].names_members for gateway in known.objects["MailGateway"]):
        return None
    try:
        items, _ = await client.list("PersistentVolumeClaim", namespace, labelSelector=names.GATEWAY_LABEL)
    except api.Refused:
        return None
    return frozenset(item["metadata"]["name"] for item in items)
