"""How commands print: a table for people, JSON or YAML for machines. Called by `resource_commands`."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from letterlock_cli import colours
from letterlock_cli.objects import Object, conditions

# Conditions that people must hear of even when they asked for machine output: warnings go to stderr.
POSITIVE = frozenset({"Accepted", "ResolvedRefs", "Ready", "Programmed", "Delivering", "Issuing"})


class Format(StrEnum):
    """What -o takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def print_objects(objects: Sequence[Object], form: Format, *, single: bool = False, **beside: object) -> None:
    """Objects for machines: one alone, or a List as kubectl prints it, and what is `beside` it. Not for the table."""
    listed = {"apiVersion": "v1", "kind": "List", **beside, "items": list(objects)}
    body: Any = objects[0] if single else listed
    if form is Format.JSON:
        print(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        import yaml

        print(yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120), end="")


def print_plain(values: Sequence[Object], form: Format) -> None:
    """Values that are no Kubernetes objects, for machines: a list."""
    if form is Format.JSON:
        print(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        import yaml

        print(yaml.safe_dump(list(values), sort_keys=False, allow_unicode=True, width=120), end="")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    """Columns padded with spaces, as kubectl does. `nothing`: said on stderr where there are no rows."""
    if not rows:
        print(nothing, file=sys.stderr)
        return
    shown = [headings, *([line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in shown) for i in range(len(headings))]
    for number, row in enumerate(shown):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        made = [colours.painted(cell, "heading") if number == 0 else colours.judged(cell) for cell in cells]
        print("   ".join(made).rstrip())


def heading(title: str, *, first: bool = False) -> None:
    """The title of what comes below it."""
    print(("" if first else "\n") + colours.painted(title, "heading"))


def print_fields(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line, in two columns."""
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        print(f"{key.ljust(width)}   {line(value)}".rstrip())


def condition(item: Object, kind: str) -> str:
    """One condition in a cell: True, or the status with its reason; `-` where it has not been judged."""
    for one in conditions(item):
        if one["type"] == kind:
            return "True" if one["status"] == "True" else f"{one['status']} ({one['reason']})"
    return "-"


def warn(objects: Sequence[Object]) -> None:
    """Standing warnings of `objects` (demo certificate, weak key, …), one line each on stderr."""
    for item in objects:
        for one in conditions(item):
            if one["type"] not in POSITIVE and one["status"] == "True":
                name = f"{item['kind']}/{item['metadata']['name']}"
                print(f"warning: {name} {one['type']}: {line(one.get('message', ''))}", file=sys.stderr)


def left(end: datetime, now: datetime) -> str:
    """How long until `end`, in words."""
    days = (end - now).days
    if end <= now:
        return "expired"
    return "less than a day left" if days == 0 else f"{days} day{'' if days == 1 else 's'} left"


def line(text: str) -> str:
    """Text of strangers on one line: controls, which terminals obey, are shown as what they are not."""
    spaced = " ".join(text.splitlines())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in spaced)
