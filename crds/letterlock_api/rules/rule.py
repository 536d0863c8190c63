"""A rule: what the API server evaluates, what it says, and its twin in Python. Made per kind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from letterlock_api.references import PEMSource


@dataclass(frozen=True)
class Rule[Value]:
    """Holds for every value at one place of a resource."""

    at: str
    """The place, as in `spec.signed[]` (every item); empty: the whole resource."""
    cel: str
    """CEL, with `self` for the value. Kubernetes 1.30 must know all that it uses."""
    message: str
    """What to do about it."""
    holds: Callable[[Value], bool]
    """The same in Python, of the value as the models hold it."""


@dataclass(frozen=True)
class Transition[Value]:
    """Holds between a value and the value that was there before (`self` and `oldSelf` in CEL)."""

    at: str
    cel: str
    message: str
    holds: Callable[[Value, Value], bool]
    """Of the new value and the old one."""


def values_at(resource: BaseModel, place: str) -> Iterator[tuple[str, Any]]:
    """Every value at `place`, with its path as people read it (`spec.signed[1]`). What is absent has none."""
    yield from _walk(resource, "", place.split(".") if place else [])


def _walk(value: object, path: str, steps: list[str]) -> Iterator[tuple[str, Any]]:
    if not steps:
        yield path, value
        return
    name = steps[0].removesuffix("[]")
    child = getattr(value, attribute(cast("BaseModel", value), name))
    here = f"{path}.{name}" if path else name
    if child is None:
        return
    if steps[0].endswith("[]"):
        for index, item in enumerate(child):
            yield from _walk(item, f"{here}[{index}]", steps[1:])
    else:
        yield from _walk(child, here, steps[1:])


def attribute(model: BaseModel, yaml_name: str) -> str:
    """The Python attribute that YAML calls `yaml_name`. Raises KeyError."""
    for name, field in type(model).model_fields.items():
        if yaml_name == (field.alias or name):
            return name
    raise KeyError(f"{type(model).__name__} has no field {yaml_name}")


def one_source(at: str) -> Rule[PEMSource]:
    """The rule for PEM text that is kept elsewhere."""
    return Rule(
        at,
        "has(self.configMapKeyRef) != has(self.secretKeyRef)",
        "name exactly one source: configMapKeyRef or secretKeyRef",
        lambda source: (source.config_map_key_ref is None) != (source.secret_key_ref is None),
    )
