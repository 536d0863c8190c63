"""Where commands read resources from: a cluster, or the state of `letterlock up` on a folder.

Called by `resource_commands` and `members`. Objects come as plain dicts, as `kubectl get -o json` prints them,
so that both look alike.
"""

import asyncio
import base64
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, part
from letterlock_cli.progress import shown

if TYPE_CHECKING:
    from letterlock_operator.api import API


@dataclass(frozen=True)
class Where:
    """What the options of a command say."""

    directory: Path | None = None
    state: Path | None = None
    namespace: str | None = None
    kubeconfig: str | None = None
    context: str | None = None


def resources(where: Where, *kinds: str, quiet: bool = False) -> list[Object]:
    """All resources of these kinds (none named: of every kind), by kind and name. Raises CommandError.

    `quiet`: what is wrong in a folder is not said (again).
    """
    from letterlock_api.kinds import KINDS

    wanted = kinds or tuple(KINDS)
    if where.directory is not None or where.state is not None:
        return _from_folder(where, wanted, quiet=quiet)
    with shown("reading from the cluster"):
        return asyncio.run(_from_cluster(where, wanted))


def resource(where: Where, kind: str, wanted: str, *, quiet: bool = False) -> Object:
    """The resource of this name. Raises CommandError, which names those that there are."""
    found = resources(where, kind, quiet=quiet)
    for item in found:
        if item["metadata"]["name"] == wanted:
            return item
    have = ", ".join(item["metadata"]["name"] for item in found) or "none"
    raise CommandError(f"there is no {kind} {wanted}; there are: {have}")


def secret(where: Where, name: str) -> dict[str, bytes]:
    """The data of a Secret that was made here. Raises CommandError where it cannot be had."""
    if where.directory is not None or where.state is not None:
        from letterlock_cli.up.state import State

        keep = State(state_directory(where)).keeps().get(name)
        if keep is None:
            raise CommandError(f"Secret {name} is not there yet: does `letterlock up` run?")
        return dict(keep.data)
    with shown("reading from the cluster"):
        found = asyncio.run(_secret_from_cluster(where, name))
    return {key: base64.b64decode(value) for key, value in part(found, "data").items()}


def state_directory(where: Where) -> Path:
    """The state of `letterlock up` that `where` means. Raises CommandError."""
    from letterlock_cli.up.places import default_directory

    directory = where.state or default_directory(cast("Path", where.directory))
    if not (directory / "status").is_dir():
        raise CommandError(
            f"no state in {directory}: run `letterlock up {where.directory or 'DIR'}` first, "
            "or say with --state where it keeps it"
        )
    return directory


def up_runs(where: Where) -> bool:
    """Whether a `letterlock up` serves the folder of `where` now."""
    from letterlock_cli.up.places import default_directory
    from letterlock_cli.up.state import State

    return State(where.state or default_directory(cast("Path", where.directory))).is_served()


def _from_folder(where: Where, kinds: tuple[str, ...], *, quiet: bool) -> list[Object]:
    from letterlock_cli.up.state import State

    state = State(state_directory(where))
    for problem in () if quiet else state.problems():
        print(f"error: {problem}", file=sys.stderr)
    return [item for (kind, _), item in sorted(state.objects().items()) if kind in kinds]


async def _from_cluster(where: Where, kinds: tuple[str, ...]) -> list[Object]:
    from letterlock_operator import api

    found: list[Object] = []
    async with client(where) as (cluster, namespace):
        for kind in kinds:
            try:
                items, _ = await cluster.list(kind, namespace)
            except api.NotFound as error:
                raise CommandError(
                    "this cluster does not know Letterlock's resources: kubectl apply -f crds/"
                ) from error
            except api.APIError as error:
                raise CommandError(f"cannot list {kind}s in namespace {namespace}: {error}") from error
            found += [{**item, "kind": kind} for item in items]
    return sorted(found, key=lambda item: (item["kind"], item["metadata"]["name"]))


async def _secret_from_cluster(where: Where, name: str) -> Object:
    from letterlock_operator import api

    async with client(where) as (cluster, namespace):
        try:
            return await cluster.get("Secret", namespace, name)
        except api.APIError as error:
            raise CommandError(f"cannot read Secret {name} in namespace {namespace}: {error}") from error


@asynccontextmanager
async def client(where: Where) -> AsyncGenerator[tuple["API", str]]:
    """A client of the cluster that `where` says, and the namespace."""
    from letterlock_operator import access, api

    try:
        found = access.find(where.kubeconfig, where.context)
    except access.NoCluster as error:
        text = " ".join(str(error).split())
        raise CommandError(f"{text}; for the state of `letterlock up` give --dir DIR") from error
    # What people change by commands is theirs, and not the operator's.
    async with api.API(found, manager="letterlock-cli") as client:
        yield client, where.namespace or _context_namespace(where) or "default"


def _context_namespace(where: Where) -> str:
    """The namespace that the kubeconfig's context names; empty: none."""
    from kubernetes import config

    try:
        listed: Any = config.list_kube_config_contexts(config_file=where.kubeconfig)  # pyright: ignore[reportUnknownMemberType]
    except (config.ConfigException, OSError):
        return ""
    contexts, active = listed
    chosen = next((one for one in contexts if one["name"] == where.context), active)
    return str(part(chosen, "context").get("namespace") or "")
