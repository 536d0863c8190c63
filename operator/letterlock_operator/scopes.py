"""Which installation serves a namespace: a Lease in it names the one. Called by `reconcile`, made by `main`.

Two operators whose scopes overlap would undo each other's work wherever their versions or options differ. So each
namespace has one, the first that asked; the other one says so in its log and as an Event on the gateways, and acts
there only once the first has been away for a minute. Replicas of one installation share its name, and `lease`
decides among them. The Lease is not let go of at the end: an operator that is replaced finds its namespaces again.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

from letterlock_api.base import format_time
from letterlock_operator import api
from letterlock_operator.act import events
from letterlock_operator.api import API, Object
from letterlock_operator.lease import Lease
from letterlock_operator.plan import Event

NAME: Final = "letterlock"
DURATION: Final = 60.0  # seconds after which another installation may take over
_RENEW_EVERY: Final = 15.0
REASON: Final = "ServedByAnother"
_log = logging.getLogger(__name__)


class Scopes:
    """The namespaces that this installation has a say in."""

    def __init__(self, client: API, installation: str, mark: Callable[[str], None]) -> None:
        """`mark` is called with a namespace that has become ours."""
        self._api = client
        self._installation = installation
        self._mark = mark
        self._leases: dict[str, Lease] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, set[str]] = {}
        """By namespace: the Events that were posted."""

    async def ours(self, namespace: str) -> bool:
        """Whether we may act there. The Lease is asked for the first time, and kept from then on."""
        lease = self._leases.get(namespace)
        if lease is None:
            lease = Lease(self._api, namespace, NAME, self._installation, DURATION)
            self._leases[namespace] = lease
            task = asyncio.create_task(self._keep(namespace, lease), name=f"scope {namespace}")
            self._tasks[namespace] = task
        if not lease.held.is_set() and lease.holder in ("", self._installation):
            await lease.attempt()
        if lease.held.is_set():
            self._told.pop(namespace, None)
        return lease.held.is_set()

    async def tell(self, namespace: str, gateways: Collection[Object]) -> bool:
        """Say that another one serves the namespace: once in the log, once as an Event on each of its gateways.

        False: nobody else does; the Lease could not be had or kept, which is in the log already.
        """
        holder = self._leases[namespace].holder
        if holder in ("", self._installation):
            return False
        if namespace not in self._told:
            _log.warning("namespace %s: %s", namespace, self._words(holder))
        told = self._told.setdefault(namespace, set())
        for gateway in gateways:
            metadata = gateway["metadata"]
            event = Event("MailGateway", metadata["name"], "Warning", REASON, self._words(holder))
            name = events.name_of(event, metadata["uid"])
            if name in told:
                continue
            involved = {"kind": event.kind, **{key: metadata[key] for key in ("namespace", "name", "uid")}}
            try:
                await self._api.create(
                    "Event", namespace, events.body(event, involved, name, format_time(datetime.now(UTC)))
                )
            except api.Conflict:
                pass  # said before we were restarted
            except api.Refused as error:
                _log.warning("the Event about %s could not be posted: %s", namespace, error)
            told.add(name)
        return True

    def forget(self, namespace: str) -> None:
        """The namespace holds nothing of ours any more: its Lease is left to end."""
        self._leases.pop(namespace, None)
        self._told.pop(namespace, None)
        task = self._tasks.pop(namespace, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Keep no Lease any more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, namespace: str, lease: Lease) -> None:
        held = True
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            await lease.attempt()
            if lease.held.is_set() and not held:
                self._mark(namespace)
            held = lease.held.is_set()

    def _words(self, holder: str) -> str:
        return (
            f"operator {self._installation} does nothing here, because operator {holder} serves this namespace: "
            "take it out of the scope of one of them"
        )
