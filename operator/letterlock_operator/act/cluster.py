"""What every action needs: the client, what is known of the namespace, who owns what. Made by `reconcile`."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from letterlock_api.base import API_VERSION
from letterlock_operator.act.makers import Makers
from letterlock_operator.api import API, Object
from letterlock_operator.store import NamespaceStore, Store
from letterlock_operator.world import FieldConflict, Refusal

# What is looked at for a gateway as a whole (`Cluster.rests`).
_OF_GATEWAYS: Final = frozenset({"mount", "identity"})


class OwnerGone(Exception):  # noqa: N818 - says what happened
    """The resource that would own an object is not there any more: nothing to write."""


@dataclass
class Memory:
    """What actions remember of one namespace between plans; nothing is lost with it but some patience."""

    settled: dict[tuple[str, str], tuple[str, int]] = field(
        default_factory=dict[tuple[str, str], tuple[str, int]]
    )
    """By kind and name: what was applied last (its hash), and the revision that came of it."""
    repairs: dict[tuple[str, str], list[float]] = field(default_factory=dict[tuple[str, str], list[float]])
    """By kind and name: when changes of others were undone (Unix seconds)."""
    conflicts: dict[tuple[str, str], FieldConflict] = field(
        default_factory=dict[tuple[str, str], FieldConflict]
    )
    """By kind and name: those that are not put back for a while."""
    quiet: dict[tuple[str, str], tuple[object, ...]] = field(
        default_factory=dict[tuple[str, str], tuple[object, ...]]
    )
    """By kind and name: what was wanted and what was there when nothing was to be done. The same objects again need
    no look."""
    said: dict[tuple[str, str], tuple[object, object]] = field(
        default_factory=dict[tuple[str, str], tuple[object, object]]
    )
    """The same of statuses, of which there are thousands."""
    held: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    """By kind and name: since when statuses wait for what is to be said next (monotonic seconds)."""
    told: dict[str, str] | None = None
    """Events of the plan before, by name; None before the first plan."""
    refusals: dict[str, Refusal] = field(default_factory=dict[str, Refusal])
    """Imports that did not work, by what was to be imported."""
    unseen: bool = False
    """Whether the store has changed by answers to our own requests, of which the watch shows nothing new any more."""

    def keep_only(self, objects: Mapping[str, Mapping[str, Object]]) -> None:
        """Forget what was done to objects that are no more. `objects`: by kind and name, all that there are."""
        for table in self._tables():
            for kind, name in [key for key in table if key[1] not in objects[_kind_of(key[0])]]:
                del table[kind, name]

    def forget(self, kind: str, name: str) -> None:
        """Forget what was done to one object, which is no more."""
        for table in self._tables():
            table.pop((kind, name), None)

    def _tables(self) -> tuple[dict[tuple[str, str], Any], ...]:
        return (self.settled, self.repairs, self.conflicts, self.quiet, self.said)


def _kind_of(kind: str) -> str:
    """The kind of the object that `Memory` remembers something of under `kind`."""
    return "MailGateway" if kind in _OF_GATEWAYS else kind.removesuffix("/status")


@dataclass(frozen=True)
class Cluster:
    """One namespace of the cluster, for actions."""

    api: API
    store: Store
    namespace: str
    memory: Memory
    makers: Makers

    @property
    def known(self) -> NamespaceStore:
        """The objects as they were seen last."""
        return self.store.namespace(self.namespace)

    def rests(self, kind: str, name: str, *looked_at: object) -> bool:
        """Whether exactly these objects were looked at before, and nothing was to be done."""
        known = self.memory.quiet.get((kind, name), ())
        return len(known) == len(looked_at) and all(map(operator.is_, known, looked_at))

    def quiet(self, kind: str, name: str, *looked_at: object) -> None:
        """Nothing is to be done for as long as these objects are the same."""
        self.memory.quiet[kind, name] = looked_at

    def seen(self, kind: str, item: Object) -> None:
        """The newest state of an object, as the API server has just given it.

        What others changed meanwhile comes with it, and the watch will show nothing new: decide again.
        """
        name = item["metadata"]["name"]
        before = self.known.objects[kind].get(name)
        if self.store.put(kind, {**item, "metadata": {**item["metadata"], "namespace": self.namespace}}):
            after = self.known.objects[kind][name]
            self.memory.unseen |= before is None or _own_part(before) != _own_part(after)

    def wrote(self, kind: str, item: Object) -> None:
        """An answer to a write that the next decision shall see, as `seen` takes it."""
        self.memory.unseen = True
        self.seen(kind, item)

    def owner_reference(self, owner: str) -> Object:
        """The controller reference to `Kind/name`. Raises OwnerGone."""
        kind, _, name = owner.partition("/")
        item = self.known.objects[kind].get(name)
        if item is None:
            raise OwnerGone(owner)
        return {
            "apiVersion": API_VERSION,
            "kind": kind,
            "name": name,
            "uid": item["metadata"]["uid"],
            "controller": True,
        }


def _own_part(item: Object) -> tuple[object, ...]:
    """What of an object decisions rest on, beside the status that we write ourselves."""
    metadata = item["metadata"]
    changing = ("uid", "generation", "deletionTimestamp", "annotations", "labels")
    # Secrets and ConfigMaps have no generation.
    return (*(metadata.get(key) for key in changing), item.get("data"), item.get("binaryData"))
