"""Which of several operators acts: a Lease of our own. The others watch and wait. Started by `main`, used by `scopes`.

Clocks of different machines are never compared: a Lease is over once it has stood unchanged for its duration
on the reader's own clock. What a holder does after losing it is harmless: resourceVersions guard the keys.
"""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import Final

from letterlock_operator import api
from letterlock_operator.api import API, Object
from letterlock_operator.store import revision

DURATION: Final = 10.0  # seconds until another one may take over
_RENEW_EVERY: Final = 2.0
# The holder stops acting before others may begin.
_GIVE_UP_AFTER: Final = 0.8  # of the duration
_log = logging.getLogger(__name__)


class Lease:
    """One Lease object, as one candidate sees it."""

    def __init__(
        self, client: API, namespace: str, name: str, identity: str, duration: float = DURATION
    ) -> None:
        """`identity`: unlike that of any other candidate. `duration`: seconds until another one may take over."""
        self._api = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._seen: tuple[int, float] = (0, 0.0)
        """Its revision, and when it was first seen (the loop's clock)."""
        self._renewed = 0.0
        self.held = asyncio.Event()
        """Set while this candidate may act."""
        self.holder = ""
        """Who had it when it was last read; empty: nobody, or it could not be read."""

    async def keep(self) -> None:
        """Try to get it and to keep it, until cancelled; then let go of it, so that nobody has to wait."""
        try:
            while True:
                await self.attempt()
                await asyncio.sleep(_RENEW_EVERY)
        finally:
            if self.held.is_set():
                self.held.clear()
                with contextlib.suppress(api.APIError):
                    await asyncio.shield(self._release())

    async def attempt(self) -> None:
        """Get it or renew it, if that can be: to be called again well within the duration."""
        with contextlib.suppress(api.Conflict):
            await self._try()
        if self.held.is_set() and self._now() - self._renewed > _GIVE_UP_AFTER * self._duration:
            self._lose()

    async def _try(self) -> None:
        began = self._now()
        try:
            standing = await self._api.get("Lease", self._namespace, self._name)
        except api.NotFound:
            await self._write(None, began)
            return
        except api.APIError as error:
            _log.warning("Lease %s/%s could not be read: %s", self._namespace, self._name, error)
            return
        if revision(standing) != self._seen[0]:
            self._seen = (revision(standing), began)
        self.holder = holder = _holder(standing)
        if holder == self._identity or not holder or began - self._seen[1] > self._duration:
            await self._write(standing, began)
        elif self.held.is_set():
            self._lose()

    async def _write(self, standing: Object | None, began: float) -> None:
        """Make it ours: created where there is none (`standing` None), else replaced. Raises api.Conflict."""
        body = self._body(standing)
        write = self._api.create if standing is None else self._api.replace
        try:
            answer = await write("Lease", self._namespace, body)
        except (api.Refused, api.Unavailable, api.NotFound) as error:
            _log.warning("Lease %s/%s could not be written: %s", self._namespace, self._name, error)
            return
        self._take(answer, began)

    def _take(self, answer: Object, began: float) -> None:
        self._seen, self._renewed = (revision(answer), began), began
        self.holder = self._identity
        if not self.held.is_set():
            _log.info("Lease %s/%s is ours", self._namespace, self._name)
            self.held.set()

    def _lose(self) -> None:
        _log.warning("Lease %s/%s is lost", self._namespace, self._name)
        self.held.clear()

    async def _release(self) -> None:
        standing = await self._api.get("Lease", self._namespace, self._name)
        if _holder(standing) == self._identity:
            standing["spec"]["holderIdentity"] = ""
            await self._api.replace("Lease", self._namespace, standing)

    def _body(self, standing: Object | None) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before: Object = (standing or {}).get("spec") or {}
        ours = before.get("holderIdentity") == self._identity
        metadata: Object = {"name": self._name}
        if standing is not None:
            metadata["resourceVersion"] = standing["metadata"]["resourceVersion"]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(self._duration),
                "acquireTime": before.get("acquireTime") if ours else now,
                "renewTime": now,
                "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours else 1),
            },
        }

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _holder(lease: Object) -> str:
    spec: Object = lease.get("spec") or {}
    return str(spec.get("holderIdentity") or "")
