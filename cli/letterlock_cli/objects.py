"""Kubernetes objects as plain dicts, and how to look into them. Used by all commands that show resources."""

from typing import Any

type Object = dict[str, Any]


def name(item: Object) -> str:
    """Its name."""
    return str(item["metadata"]["name"])


def part(item: Object, key: str) -> Object:
    """A part of it that is an object itself (spec, status, …); empty where it is not there."""
    return item.get(key) or {}


def items(item: Object, key: str) -> list[Object]:
    """A list of objects in it; empty where it is not there."""
    return item.get(key) or []


def texts(item: Object, key: str) -> list[str]:
    """A list of strings in it; empty where it is not there."""
    return item.get(key) or []


def conditions(item: Object) -> list[Object]:
    """The conditions in its status."""
    return items(part(item, "status"), "conditions")


def condition(item: Object, kind: str) -> Object:
    """One condition in its status; empty where it has not been judged."""
    found = [one for one in conditions(item) if one["type"] == kind]
    return found[0] if found else {}
