"""Where commands write manifests: into a folder that `letterlock up` serves, or to a cluster.

Called by the commands that make and change resources; what either side does is in `folder_target` and
`cluster_target`. Manifests are plain dicts, as everywhere in the commands.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from letterlock_api.base import API_VERSION
from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, part
from letterlock_cli.source import Where

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "letterlock-cli"

type Edit = Callable[[Object], None]
"""Changes a manifest in place, and does the same whenever it is called with the same."""


class Target(Protocol):
    """Holds the manifests of one namespace. Every method raises CommandError."""

    def find(self, kind: str, name: str) -> Object | None:
        """The manifest; None: there is none."""
        ...

    def all(self, kind: str) -> list[Object]:
        """All manifests of a kind."""
        ...

    def create(self, manifest: Object) -> str:
        """Add a manifest that is not there yet. Gives what was done, for people."""
        ...

    def change(self, kind: str, name: str, edit: Edit) -> str:
        """Change one that is there; whatever else is in it, or was changed meanwhile, stays. Gives what was done."""
        ...

    def own(self, kind: str, name: str, owner: Object) -> None:
        """Let a Secret or ConfigMap go when `owner` (a manifest of this target) is deleted."""
        ...


def target(where: Where) -> Target:
    """Where `where` says. Raises CommandError."""
    if where.directory is not None:
        from letterlock_cli.folder_target import FolderTarget

        return FolderTarget(where.directory)
    if where.state is not None:
        raise CommandError("--state alone says where statuses are: give --dir with the folder to write to")
    from letterlock_cli.cluster_target import ClusterTarget

    return ClusterTarget(where)


def manifest(kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    """A manifest of one of our kinds."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}


def spec_of(item: Object) -> Object:
    """The spec of a manifest, to be changed in place: made where there is none, or only its name."""
    found: Object = item.get("spec") or {}
    item["spec"] = found
    return found


def check(wanted: Object) -> None:
    """Raise CommandError where the API server would refuse the manifest."""
    from letterlock_api import rules

    try:
        wrong = rules.problems(rules.parse({key: one for key, one in wanted.items() if key != "status"}))
    except ValueError as error:
        wrong = [str(error)]
    if wrong:
        raise CommandError(f"{wanted['kind']}/{wanted['metadata']['name']}: {'; '.join(wrong)}")


def keep(there: Target, kind: str, name: str, data: Mapping[str, bytes], belongs: Mapping[str, str]) -> str:
    """Put `data` into a Secret or ConfigMap of the commands' own: made where it is missing. Gives what was done.

    `belongs`: labels. Raises CommandError where somebody else has the name (NameTaken).
    """
    content: Object = (
        {"data": {key: base64.b64encode(value).decode() for key, value in data.items()}}
        if kind == "Secret"
        else {"data": {key: value.decode() for key, value in data.items()}}
    )
    present = there.find(kind, name)
    if present is None:
        labels = {"app.kubernetes.io/name": "letterlock", MANAGED_BY: MANAGER, **belongs}
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}}
        return there.create({**body, **({"type": "Opaque"} if kind == "Secret" else {}), **content})
    if part(part(present, "metadata"), "labels").get(MANAGED_BY) != MANAGER:
        raise CommandError(
            f"NameTaken: {kind} {name} is there already and was not made by this command: rename or remove it"
        )

    def put(there: Object) -> None:
        for other in ("stringData", "binaryData"):
            there.pop(other, None)
        there.update(content)

    return there.change(kind, name, put)
