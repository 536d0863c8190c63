"""Manifests on a cluster. Called through `targets`.

What is changed is sent back with its resourceVersion, and tried again on what came in between: a list that two
people change at a time loses nothing.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, items
from letterlock_cli.source import Where, client

if TYPE_CHECKING:
    from letterlock_cli.targets import Edit
    from letterlock_operator.api import API

_TRIES: Final = 10


class ClusterTarget:
    """The namespace that `where` says."""

    def __init__(self, where: Where) -> None:
        self._where = where

    def find(self, kind: str, name: str) -> Object | None:
        """See Target."""
        return self._run(lambda cluster, namespace: _get(cluster, namespace, kind, name))

    def all(self, kind: str) -> list[Object]:
        """See Target."""

        async def listed(cluster: "API", namespace: str) -> list[Object]:
            found, _ = await cluster.list(kind, namespace)
            return [{**one, "kind": kind} for one in found]

        return self._run(listed)

    def create(self, manifest: Object) -> str:
        """See Target."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]

        async def created(cluster: "API", namespace: str) -> str:
            from letterlock_operator import api

            try:
                await cluster.create(kind, namespace, manifest)
            except api.Conflict as error:
                raise CommandError(f"{kind}/{name} is there already in namespace {namespace}") from error
            return f"{kind}/{name} created in namespace {namespace}"

        return self._run(created)

    def change(self, kind: str, name: str, edit: "Edit") -> str:
        """See Target."""

        async def changed(cluster: "API", namespace: str) -> str:
            from letterlock_operator import api

            for _ in range(_TRIES):
                present = await _get(cluster, namespace, kind, name)
                if present is None:
                    raise CommandError(f"there is no {kind} {name} in namespace {namespace}")
                wanted = copy.deepcopy(present)
                edit(wanted)
                if wanted == present:
                    return f"{kind}/{name} unchanged"
                try:
                    await cluster.replace(kind, namespace, wanted)
                except api.Conflict:
                    continue  # somebody else was faster: edit what is there now
                return f"{kind}/{name} changed in namespace {namespace}"
            raise CommandError(f"{kind}/{name} is being changed by others all the time: try again")

        return self._run(changed)

    def own(self, kind: str, name: str, owner: Object) -> None:
        """See Target. No controller reference: what a person brought is not the operator's."""
        there = self.find(owner["kind"], owner["metadata"]["name"])
        if there is None:
            return
        reference = {
            "apiVersion": there["apiVersion"],
            "kind": owner["kind"],
            "name": there["metadata"]["name"],
            "uid": there["metadata"]["uid"],
        }

        def add(item: Object) -> None:
            owners = items(item["metadata"], "ownerReferences")
            if all(one.get("uid") != reference["uid"] for one in owners):
                item["metadata"]["ownerReferences"] = [*owners, reference]

        self.change(kind, name, add)

    def _run[Value](self, act: Callable[["API", str], Awaitable[Value]]) -> Value:
        async def run() -> Value:
            from letterlock_operator import api

            async with client(self._where) as (cluster, namespace):
                try:
                    return await act(cluster, namespace)
                except api.NotFound as error:
                    if "namespaces" in str(error):
                        raise CommandError(f"there is no namespace {namespace}") from error
                    raise CommandError(
                        "this cluster does not know Letterlock's resources: kubectl apply -f crds/"
                    ) from error
                except api.APIError as error:
                    raise CommandError(" ".join(str(error).split())) from error

        return asyncio.run(run())


async def _get(cluster: "API", namespace: str, kind: str, name: str) -> Object | None:
    from letterlock_operator import api

    try:
        return await cluster.get(kind, namespace, name)
    except api.NotFound:
        return None
