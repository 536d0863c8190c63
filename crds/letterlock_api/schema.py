"""From pydantic models to the structural schemas that a CRD may hold (apiextensions v1). Called by `crd`.

Structural means: one `type` per value, nothing shared by reference, no alternatives that decide on a type. So
references are written out, and `X | None` becomes an `X` that may be absent: null is never a value of ours.
"""

from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python

type Schema = dict[str, Any]


class _WithFactories(GenerateJsonSchema):
    """Writes down what default factories make, too: the API server fills in exactly what the models would."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        written = super().default_schema(schema)
        factory = schema.get("default_factory")
        if factory is None or schema.get("default_factory_takes_data"):
            return written
        made: Any = cast("Any", factory)()
        # An object that is filled in empty gets the defaults of its own fields.
        value: Any = {} if isinstance(made, BaseModel) else to_jsonable_python(made)
        return {**written, "default": value}


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of `model`, descriptions and defaults included."""
    generated = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_WithFactories)
    return _structural(generated, generated.get("$defs", {}))


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _without_null(_inlined(node, definitions), definitions)
    node = {key: value for key, value in node.items() if key not in {"title", "$defs"}}
    if node.get("x-kubernetes-int-or-string"):
        return _with_useful_default(_int_or_string(node))
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if node.get("type") == "object":
        node = _object(node, definitions)
    if node.get("type") == "array":
        node["items"] = _structural(node["items"], definitions)
        node.setdefault("x-kubernetes-list-type", "atomic")
    return _with_useful_default(node)


def _inlined(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """The node with its `$ref` written out; what stands beside the reference (a field's description) wins."""
    reference = node.get("$ref")
    if reference is None:
        return node
    target = definitions[reference.removeprefix("#/$defs/")]
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return _inlined({**target, **beside}, definitions)


def _without_null(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """`X | None` as `X`."""
    if "anyOf" not in node:
        return node
    alternatives = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(alternatives) != 1:
        raise TypeError(f"a structural schema knows no alternatives: {node['anyOf']}")
    beside = {key: value for key, value in node.items() if key != "anyOf"}
    return {**_inlined(alternatives[0], definitions), **beside}


def _int_or_string(node: Schema) -> Schema:
    """The one pair of types that a structural schema may leave open."""
    kept = {key: value for key, value in node.items() if key not in {"type", "format"}}
    return {**kept, "anyOf": [{"type": "integer"}, {"type": "string"}]}


def _object(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = dict(node)
    values = node.pop("additionalProperties", None)
    if "properties" in node:
        node["properties"] = {
            name: _structural(field, definitions) for name, field in node["properties"].items()
        }
    elif isinstance(values, dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        node["additionalProperties"] = _structural(cast("Schema", values), definitions)
    return node


def _with_useful_default(node: Schema) -> Schema:
    """Leaves out defaults that say nothing: null, empty lists, objects in which nothing is filled in."""
    default = node.get("default")
    if default == {}:
        fields = node.get("properties", {}).items()
        # Written out: the API server judges a default by the rules before it fills in the defaults within.
        default = {name: field["default"] for name, field in fields if "default" in field}
    kept = {key: value for key, value in node.items() if key != "default"}
    return kept if default in (None, [], {}) else {**kept, "default": default}


def without_defaults(node: Schema) -> Schema:
    """The schema with nothing to fill in, anywhere below."""
    bare = {key: value for key, value in node.items() if key != "default"}
    if "properties" in bare:
        bare["properties"] = {name: without_defaults(field) for name, field in bare["properties"].items()}
    if "items" in bare:
        bare["items"] = without_defaults(bare["items"])
    return bare


def at(node: Schema, place: str) -> Schema:
    """The schema at a place as rules name it (`spec.signed[]`); empty: the whole. Raises KeyError."""
    for step in place.split(".") if place else ():
        node = node["properties"][step.removesuffix("[]")]
        if step.endswith("[]"):
            node = node["items"]
    return node
