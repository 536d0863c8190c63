"""From a manifest to a resource, or to one line that says what is wrong: where no API server looks first."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from letterlock_api.base import API_VERSION
from letterlock_api.kinds import KINDS, AnyResource

# RFC 1123 subdomain: what the API server takes as the name of an object.
_NAME: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

# What to write instead of something of another type.
_FIELDS: Final = "write fields (name: value) below it"
_NUMBER: Final = "write a whole number, without quotes"
_BOOLEAN: Final = "write true or false, without quotes"
_OTHERWISE: Final[Mapping[str, str]] = {
    "list_type": "write a list, as in [a, b], or a line with - for each",
    "dict_type": _FIELDS,
    "model_type": _FIELDS,
    "string_type": "write text, in quotes where YAML would read something else",
    "int_type": _NUMBER,
    "int_from_float": _NUMBER,
    "bool_type": _BOOLEAN,
}


def parse(manifest: Mapping[str, Any]) -> AnyResource:
    """The resource that a manifest describes, types taken as strictly as the API server takes them.

    Raises ValueError with one line, as in `spec.port: write a number from 1 to 65535, not 0`.
    """
    kind, version = manifest.get("kind"), manifest.get("apiVersion")
    model = KINDS.get(str(kind))
    if model is None or version != API_VERSION:
        raise ValueError(
            f"{version} {kind} is not known: write apiVersion: {API_VERSION} and a kind of {', '.join(KINDS)}"
        )
    _check_name(manifest.get("metadata"))
    try:
        text = json.dumps(manifest, default=str)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the manifest cannot be written as JSON: {error}") from error
    try:
        return model.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        lines = [f"{_path(detail['loc'])}: {_message(detail, model)}" for detail in error.errors()]
        raise ValueError("; ".join(dict.fromkeys(lines))) from None


def _check_name(metadata: object) -> None:
    name: Any = metadata.get("name") if isinstance(metadata, Mapping) else None  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
    if not isinstance(name, str) or len(name) > 253 or not re.fullmatch(_NAME, name):
        raise ValueError(
            "metadata.name: write a name of lower-case letters, digits, '-' and '.'"
            + (f", not {name!r}" if name else "")
        )


def _path(location: tuple[int | str, ...]) -> str:
    parts = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(parts).removeprefix(".") or "the manifest"


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    found, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "this field is required"
        case "extra_forbidden":
            return _unknown(detail["loc"], model)
        case "literal_error":
            quoted = ' (YAML reads a bare No as false: write "No", in quotes)' if found is False else ""
            return f"write one of {context['expected']}, not {found!r}{quoted}"
        case "greater_than_equal":
            return f"write a number of at least {context['ge']}, not {found!r}"
        case "less_than_equal":
            return f"write a number of at most {context['le']}, not {found!r}"
        case "shape":
            return f"{detail['msg']}; not {_shortened(found)}"
        case "value_error":
            return f"{context['error']}; not {_shortened(found)}"
        case "too_long" | "too_short" | "string_too_long" | "string_too_short":
            return detail["msg"]
        case kind if kind in _OTHERWISE:
            return f"{_OTHERWISE[kind]}; not {_shortened(found)}"
        case _:
            return f"{detail['msg']}, not {_shortened(found)}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _unknown(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """What to write instead of a field that is not known."""
    name = str(location[-1])
    known = _fields_at(model.model_json_schema(by_alias=True), location[:-1])
    close = get_close_matches(name, known, n=1)
    return "unknown field" + (f": did you mean {close[0]}?" if close else "")


def _fields_at(schema: dict[str, Any], location: tuple[int | str, ...]) -> list[str]:
    definitions: dict[str, Any] = schema.get("$defs", {})

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        for option in node.get("anyOf", ()):
            if option.get("type") != "null":
                return resolved(option)
        return definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node

    for step in location:
        schema = resolved(schema.get("items", {}) if isinstance(step, int) else schema["properties"][step])
    return list(schema.get("properties", {}))
