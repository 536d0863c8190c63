"""What the watches and lists have shown so far, as plain dicts by namespace, kind and name. In memory only.

Written by `handlers` (events), `reconcile` (lists) and `act` (answers to our own writes), read by `observe`
and `act`. An object never goes back in time: resourceVersions of one kind are ordered (since Kubernetes 1.35
by contract, before that because etcd counts), and what a list did not show at its revision is gone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from letterlock_api.base import GROUP
from letterlock_api.kinds import KINDS
from letterlock_operator.api import Object

# Kept whole even where they are not ours: resources refer to them by name.
_REFERENCED: Final = frozenset({"Secret", "ConfigMap"})
# All that a namespace's decisions rest on, in the order that it is listed. Referenced objects come last,
# so that a resource never refers to something that was listed before it existed.
WATCHED: Final = (
    *KINDS,
    "StatefulSet",
    "Service",
    "ServiceAccount",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Pod",
    "ConfigMap",
    "Secret",
)


def revision(item: Object) -> int:
    """The object's resourceVersion as a number."""
    return int(item["metadata"].get("resourceVersion") or 0)


@dataclass
class NamespaceStore:
    """One namespace."""

    objects: dict[str, dict[str, Object]] = field(default_factory=lambda: defaultdict(dict))
    listed: dict[str, int] = field(default_factory=dict[str, int])
    """Revision of the last whole list per kind."""

    def copy(self) -> "NamespaceStore":
        """The same as it is now, for whoever reads it in a thread. Objects are shared: nobody changes them."""
        objects: dict[str, dict[str, Object]] = defaultdict(dict)
        objects.update({kind: dict(items) for kind, items in self.objects.items()})
        return NamespaceStore(objects, dict(self.listed))

    def owner_exists(self, reference: Mapping[str, object]) -> bool:
        """Whether an owner reference names a resource of ours that is there now, and not a namesake of it."""
        owner = self.objects[str(reference.get("kind"))].get(str(reference.get("name")))
        return owner is not None and owner["metadata"].get("uid") == reference.get("uid")


class Store:
    """All namespaces that hold resources of ours."""

    def __init__(self) -> None:
        self._namespaces: dict[str, NamespaceStore] = {}

    def namespace(self, name: str) -> NamespaceStore:
        """The namespace's objects; an empty one where nothing is known."""
        return self._namespaces.setdefault(name, NamespaceStore())

    def active(self, name: str) -> bool:
        """Whether the namespace is one that we serve: it holds, or held a moment ago, a resource of ours."""
        return name in self._namespaces

    def put(self, kind: str, item: Object) -> bool:
        """Take in an object as it was seen. False: nothing new, or not of a namespace that we serve."""
        namespace, name = item["metadata"].get("namespace", ""), item["metadata"]["name"]
        if kind not in KINDS and not self.active(namespace):
            return False
        known = self.namespace(namespace)
        before = known.objects[kind].get(name)
        seen = max(known.listed.get(kind, 0), revision(before) if before else 0)
        if revision(item) <= seen:
            return False
        known.objects[kind][name] = trimmed(kind, item)
        return True

    def remove(self, kind: str, item: Object) -> bool:
        """The object was deleted. False: already known, or a namesake has come since."""
        namespace, name = item["metadata"].get("namespace", ""), item["metadata"]["name"]
        if not self.active(namespace):
            return False
        known = self.namespace(namespace)
        before = known.objects[kind].get(name)
        if before is None or before["metadata"].get("uid") != item["metadata"].get("uid"):
            return False
        del known.objects[kind][name]
        return True

    def replace(self, namespace: str, kind: str, items: Iterable[Object], listed_at: int) -> bool:
        """Take in a whole list; what is newer than it stays. True where anything differs from before."""
        known = self.namespace(namespace)
        before = known.objects[kind]
        after = {item["metadata"]["name"]: trimmed(kind, item) for item in items}
        for name, item in before.items():
            listed = revision(after[name]) if name in after else 0
            # The same one stays the same object: nobody has to look at it again.
            if revision(item) == listed or revision(item) > max(listed_at, listed):
                after[name] = item
        known.objects[kind] = after
        known.listed[kind] = listed_at
        return {n: revision(i) for n, i in before.items()} != {n: revision(i) for n, i in after.items()}

    def forget(self, namespace: str) -> None:
        """The namespace holds nothing of ours any more."""
        self._namespaces.pop(namespace, None)


def controller(item: Object) -> Mapping[str, object] | None:
    """The controller owner reference, where it names a resource of our group."""
    for reference in item["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and str(reference.get("apiVersion", "")).startswith(f"{GROUP}/"):
            return reference
    return None


def trimmed(kind: str, item: Object) -> Object:
    """What of an object is kept: of those that are neither ours nor referenced, only that they are there."""
    if kind in KINDS:
        # Who set which field matters only for objects that we apply.
        metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
        return {**item, "metadata": metadata}
    if kind == "Pod" or controller(item) is not None:
        return item
    metadata = {
        key: value
        for key, value in item["metadata"].items()
        if key in {"name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences"}
    }
    rest = {key: value for key, value in item.items() if key not in {"metadata", "spec", "status"}}
    return {"metadata": metadata, **(rest if kind in _REFERENCED else {})}
