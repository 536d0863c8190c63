"""From store to `World`: raw objects become the frozen values that decisions see. Called by `reconcile`."""

import base64
import binascii
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import certifi
from pydantic import ValidationError

from letterlock_api import packing
from letterlock_api.kinds import KINDS, AnyResource
from letterlock_api.snapshot import SNAPSHOT_FILE
from letterlock_operator import names
from letterlock_operator.api import Object
from letterlock_operator.store import NamespaceStore, controller
from letterlock_operator.world import (
    FieldConflict,
    InvalidResource,
    Keep,
    Member,
    Refusal,
    SigningRequest,
    Unreadable,
    World,
)

# Derived objects whose names others may have taken before us.
_DERIVED: Final = ("StatefulSet", "Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget")
_KEPT: Final = ("Secret", "ConfigMap")


@dataclass
class _Kind:
    """One kind of a namespace: the objects that were seen last, and what they read as."""

    items: Mapping[str, Object] = field(default_factory=dict[str, Object])
    ours: frozenset[str] = frozenset()
    """Names of those that a resource of ours owns."""
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def read(
        self, items: Mapping[str, Object], ours: frozenset[str], reader: Callable[[Object], Any]
    ) -> Mapping[str, Any]:
        """What `items` read as. Objects never change: only those that are others, or somebody else's, are read."""
        known, other = self.items, self.ours ^ ours
        fresh = {
            name: reader(item) for name, item in items.items() if known.get(name) is not item or name in other
        }
        values = {**self.values, **fresh} if fresh else self.values
        if len(values) != len(items):
            values = {name: values[name] for name in items}
        self.items, self.ours, self.values = dict(items), ours, values
        return values


class Observer:
    """Builds worlds; remembers what objects read as, so that one change among 10,000 reads one.

    May run in a thread, one at a time for each namespace.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, _Kind]] = {}

    def world(
        self,
        namespace: str,
        known: NamespaceStore,
        members: Mapping[str, tuple[Member, ...]],
        requests: Mapping[str, SigningRequest] | Unreadable,
        refusals: Mapping[str, Refusal],
        *,
        claims: frozenset[str] | None = None,
        conflicts: tuple[FieldConflict, ...] = (),
    ) -> World:
        """The namespace as it is known now. `members`: by gateway, as the polls have shown them."""
        kinds = self._kinds.setdefault(namespace, defaultdict(_Kind))
        invalid: list[InvalidResource] = []
        found: dict[str, Mapping[str, Any]] = {}
        for kind, model in KINDS.items():
            read = kinds[kind].read(
                known.objects[kind],
                frozenset(),
                lambda item, kind=kind, model=model: _resource(kind, model, item),
            )
            bad = [name for name, value in read.items() if not isinstance(value, model)]
            invalid += [read[name] for name in bad if read[name] is not None]
            left = frozenset(bad)
            found[kind] = {name: one for name, one in read.items() if name not in left} if left else read
        ours = {
            kind: frozenset(name for name, item in known.objects[kind].items() if is_ours(item, known))
            for kind in (*_DERIVED, *_KEPT)
        }
        return World(
            namespace=namespace,
            gateways=found["MailGateway"],
            certificates=found["Certificate"],
            listeners=found["Listener"],
            destinations=found["DestinationControl"],
            ca_lists=found["CAList"],
            invalid=tuple(invalid),
            secrets=kinds["Secret"].read(
                known.objects["Secret"], ours["Secret"], lambda item: secret(item, known)
            ),
            config_maps=kinds["ConfigMap"].read(
                known.objects["ConfigMap"], ours["ConfigMap"], lambda item: config_map(item, known)
            ),
            foreign=frozenset(
                f"{kind}/{name}" for kind in _DERIVED for name in known.objects[kind].keys() - ours[kind]
            ),
            members=members,
            scales={
                name: int(known.objects["StatefulSet"][name]["spec"].get("replicas", 1))
                for name in ours["StatefulSet"]
                if name in found["MailGateway"]
            },
            claims=claims,
            requests=requests,
            refusals=refusals,
            conflicts=conflicts,
            system_roots=system_roots(),
        )

    def forget(self, namespace: str) -> None:
        """The namespace is no longer served."""
        self._kinds.pop(namespace, None)


def _resource(kind: str, model: type[AnyResource], item: Object) -> AnyResource | InvalidResource | None:
    """What stands in `item`; None: it is being deleted."""
    return None if item["metadata"].get("deletionTimestamp") else parse(kind, model, item)


def parse(kind: str, model: type[AnyResource], item: Object) -> AnyResource | InvalidResource:
    """The resource in `item`. A status that we cannot read (a newer version wrote it) counts as none."""
    body = {key: value for key, value in item.items() if key in {"kind", "apiVersion", "metadata", "spec"}}
    body["kind"] = kind
    try:
        return model.model_validate({**body, "status": item.get("status") or {}})
    except ValidationError:
        pass
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        metadata = item["metadata"]
        return InvalidResource(kind, metadata["name"], metadata.get("generation"), f"{where}: {first['msg']}")


def is_ours(item: Object, known: NamespaceStore) -> bool:
    """Whether a resource of ours that is there now owns it."""
    reference = controller(item)
    return reference is not None and known.owner_exists(reference)


def secret(item: Object, known: NamespaceStore) -> Keep | Unreadable:
    """A Secret, decoded."""
    encoded: Mapping[str, str] = item.get("data") or {}
    try:
        data = {key: base64.b64decode(value or "", validate=True) for key, value in encoded.items()}
    except binascii.Error as error:
        return Unreadable(f"its data is not base64: {error}")
    return _keep(item, data, known, str(item.get("type") or "Opaque"))


def config_map(item: Object, known: NamespaceStore) -> Keep | Unreadable:
    """A ConfigMap; text and binary data alike as bytes."""
    text: Mapping[str, str] = item.get("data") or {}
    binary: Mapping[str, str] = item.get("binaryData") or {}
    data = {key: value.encode() for key, value in text.items()}
    try:
        for key, value in binary.items():
            data[key] = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        return Unreadable(f"its binaryData is not base64: {error}")
    return _keep(item, data, known, "")


def snapshot_in(item: Object | None) -> bytes:
    """The bytes of the snapshot that a ConfigMap holds, unpacked; empty: none. What is damaged is given as it is."""
    text: Mapping[str, str] = (item or {}).get("data") or {}
    binary: Mapping[str, str] = (item or {}).get("binaryData") or {}
    if SNAPSHOT_FILE not in binary:
        return text.get(SNAPSHOT_FILE, "").encode()
    try:
        content = base64.b64decode(binary[SNAPSHOT_FILE])
    except binascii.Error:
        return binary[SNAPSHOT_FILE].encode()
    try:
        return packing.unpack(content)
    except ValueError:
        return content


def names_members(content: bytes) -> bool:
    """Whether a snapshot, as `snapshot_in` gives it, says who may take mail (`Snapshot.admits`)."""
    # Its keys are sorted, and this one is the first: no need to read what may be megabytes.
    return content.startswith(b'{"admits":')


def _keep(item: Object, data: Mapping[str, bytes], known: NamespaceStore, type_: str) -> Keep:
    reference = controller(item)
    ours = is_ours(item, known)
    notes: Mapping[str, str] = item["metadata"].get("annotations") or {}
    return Keep(
        name=item["metadata"]["name"],
        data=data,
        type=type_,
        ours=ours,
        owner=f"{reference['kind']}/{reference['name']}" if reference and ours else "",
        resource_version=str(item["metadata"].get("resourceVersion", "")),
        inputs=notes.get(names.INPUTS, "") if ours else "",
    )


@cache
def system_roots() -> bytes:
    """Mozilla's roots, PEM, as certifi brings them."""
    return Path(certifi.where()).read_bytes()
