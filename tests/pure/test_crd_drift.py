"""The committed CRDs are what the models say, and hold what the API server asks of them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from letterlock_api import crd
from letterlock_api.kinds import KINDS

type Schema = dict[str, Any]


def test_committed_files_are_what_the_models_say() -> None:
    assert crd.drifted() == []


def test_check_tells_by_its_exit_status() -> None:
    assert crd.main(["--check"]) == 0


def below(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """The schema and all within it, each with its path."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from below(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from below(schema[key], f"{path}[]")


def schemas(kind: str, part: str) -> list[tuple[str, Schema]]:
    """Every schema of `spec` or `status` of a kind."""
    whole = crd.resource_schema(KINDS[kind])
    return list(below(whole["properties"][part], part))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_users_write_is_bounded(kind: str) -> None:
    for path, schema in schemas(kind, "spec"):
        match schema.get("type"):
            case "string":
                assert "maxLength" in schema or "enum" in schema, path
            case "array":
                assert "maxItems" in schema, path
                assert "x-kubernetes-list-type" in schema, path
            case "object" if "additionalProperties" in schema:
                assert "maxProperties" in schema, path
            case _:
                pass


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described(kind: str) -> None:
    for part in ("spec", "status"):
        for path, schema in schemas(kind, part):
            for name, field in schema.get("properties", {}).items():
                assert len(field.get("description", "")) > 2, f"{path}.{name}"


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_hold_nothing_that_the_api_server_reads_differently(kind: str) -> None:
    """RE2 knows no look-around, no back-references and no possessive quantifiers."""
    for path, schema in schemas(kind, "spec"):
        rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
        for text in (*rules, schema.get("pattern", "")):
            assert not re.search(r"\(\?[=!<>]|\\[1-9zZA]|[*+?]\+", text), path


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_status_is_filled_in(kind: str) -> None:
    assert not [path for path, schema in schemas(kind, "status") if "default" in schema]


def test_policies_have_no_defaults_since_they_fall_back() -> None:
    within = [
        (path, schema)
        for path, schema in schemas("Listener", "spec")
        if path.startswith(("spec.mailFlowPolicies[]", "spec.defaultPolicy"))
    ]
    assert len(within) > 20
    assert not [path for path, schema in within if "default" in schema]


@pytest.mark.parametrize(
    ("kind", "path", "kind_of_list", "keys"),
    [
        ("MailGateway", "spec.ldap", "map", ["name"]),
        ("MailGateway", "status.members", "map", ["name"]),
        ("Certificate", "spec.dnsNames", "set", None),
        ("Certificate", "spec.signed", "map", ["member"]),
        ("Certificate", "status.members", "map", ["name"]),
        ("Listener", "spec.senderGroups", "atomic", None),
        ("Listener", "spec.recipients", "atomic", None),
        ("Listener", "spec.certificateRefs", "atomic", None),
        ("Listener", "spec.mailFlowPolicies", "map", ["name"]),
        ("Listener", "status.members", "map", ["name"]),
        ("DestinationControl", "spec.domains", "set", None),
        ("DestinationControl", "spec.routes", "map", ["host", "port"]),
        *((kind, "status.conditions", "map", ["type"]) for kind in KINDS),
    ],
)
def test_lists_merge_as_promised(kind: str, path: str, kind_of_list: str, keys: list[str] | None) -> None:
    found = dict(schemas(kind, path.partition(".")[0]))[path]
    assert found["x-kubernetes-list-type"] == kind_of_list
    assert found.get("x-kubernetes-list-map-keys") == keys
    for key in keys or ():
        item = found["items"]
        assert key in item.get("required", ()) or "default" in item["properties"][key]
