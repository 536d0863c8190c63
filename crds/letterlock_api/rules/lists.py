"""Entries that stand twice in a list of type set or map: the API server refuses them by the list's type."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from letterlock_api.rules.rule import attribute


def repeated(value: BaseModel, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and message of every entry of a set that was there before, and of every key of a map."""
    for name, field in type(value).model_fields.items():
        content = getattr(value, name)
        here = f"{path}.{field.alias or name}" if path else field.alias or name
        if isinstance(content, BaseModel):
            yield from repeated(content, here)
        elif isinstance(content, list):
            items = cast("list[Any]", content)
            yield from _twice(items, field, here)
            for index, item in enumerate(items):
                if isinstance(item, BaseModel):
                    yield from repeated(item, f"{here}[{index}]")


def _twice(items: list[Any], field: FieldInfo, path: str) -> Iterator[tuple[str, str]]:
    extra = field.json_schema_extra
    described: Mapping[str, Any] = cast("Mapping[str, Any]", extra) if isinstance(extra, dict) else {}
    kind = described.get("x-kubernetes-list-type", "atomic")
    if kind == "atomic":
        return
    keys = cast("list[str]", described.get("x-kubernetes-list-map-keys", []))
    seen: set[tuple[Any, ...]] = set()
    for index, item in enumerate(items):
        key = tuple(getattr(item, attribute(item, name)) for name in keys) if kind == "map" else (item,)
        if key in seen:
            yield f"{path}[{index}]", f"{' '.join(map(str, key))} is in the list twice: Duplicate value"
        seen.add(key)
