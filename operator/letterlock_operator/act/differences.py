"""Whether an object on the cluster is what we want it to be. Pure; used by `derived`.

Server-side apply would answer this too, but at the price of a write per object and look.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from letterlock_operator.api import FIELD_MANAGER, Object


def differs(wanted: Object, observed: Object) -> bool:
    """True where a field that we want is missing or different, or where we own one that we no longer want."""
    body = {key: value for key, value in wanted.items() if key not in {"apiVersion", "kind"}}
    return not _covers(observed, body) or any(
        _owns_more(entry.get("fieldsV1") or {}, wanted)
        for entry in observed["metadata"].get("managedFields") or ()
        if entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
    )


def _covers(observed: object, wanted: object) -> bool:
    """Whether `observed` has all of `wanted`; what the server and others add beside it does not matter."""
    if isinstance(wanted, Mapping):
        fields = cast("Mapping[str, Any]", wanted)
        if not isinstance(observed, Mapping):
            return not fields and observed is None
        there = cast("Mapping[str, Any]", observed)
        # The server leaves empty maps and lists out.
        return all(_covers(there.get(key), value) for key, value in fields.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        items = cast("Sequence[Any]", wanted)
        if not isinstance(observed, Sequence):
            return not items and observed is None
        present = cast("Sequence[Any]", observed)
        return len(items) == len(present) and all(map(_covers, present, items))
    return observed == wanted


def _owns_more(fields: Mapping[str, Any], wanted: object) -> bool:
    """Whether `fields` (metav1.FieldsV1, as in managedFields) names something that `wanted` has not."""
    for path, below in fields.items():
        if path == ".":
            continue
        how, _, what = path.partition(":")
        match how:
            case "f":
                mapping = _mapping(wanted)
                there, inner = what in mapping, mapping.get(what)
            case "k":
                keys: Mapping[str, Any] = json.loads(what)
                there, inner = _element(wanted, keys)
            case "v":
                there, inner = json.loads(what) in _list(wanted), None
            case _:
                there, inner = True, None
        if not there or (inner is not None and _owns_more(below, inner)):
            return True
    return False


def _element(wanted: object, keys: Mapping[str, Any]) -> tuple[bool, Any]:
    """The element of a list that `keys` names; a key that it leaves to the server's default fits anything."""
    for element in map(_mapping, _list(wanted)):
        if element and all(key not in element or element[key] == value for key, value in keys.items()):
            return True, element
    return False, None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return cast("Sequence[Any]", value) if isinstance(value, list) else ()
