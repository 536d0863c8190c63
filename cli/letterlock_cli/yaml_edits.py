"""Changes one manifest in a text with manifests and leaves the rest of it as people wrote it. No I/O.

Called by `folder_target`. ruamel.yaml keeps comments, quotes and order of the one document that changes; the
others are not touched at all. It reads YAML 1.2, while kubectl and `letterlock up` read 1.1 (`No` is false there):
what comes out is read again as they read it, and nothing is written unless it says exactly what was meant.
"""

import copy
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import LiteralScalarString

from letterlock_api.base import API_VERSION
from letterlock_cli.objects import Object

# RFC 7468 ends lines at 64 characters, and long names are not to be broken.
_WIDTH: Final = 4096
# A document begins with `---` at the beginning of a line (YAML 1.1, section 9.1): no scalar can hold that.
_DOCUMENT: Final = re.compile(r"^(?=---(?:[ \t]|$))", re.MULTILINE)
_FIRST_LINE: Final = re.compile(r"---[ \t]*(#[^\n]*)?\n")
# The first list in a mapping, to see whether people indent its dashes.
_LIST: Final = re.compile(r"^( *)[^\s#-][^\n]*:[ \t]*(?:#[^\n]*)?\n(?:[ \t]*#[^\n]*\n)*( *)- ", re.MULTILINE)


class CannotEdit(Exception):  # noqa: N818 - says what it is
    """The text cannot be changed without changing more than was asked for."""


class _Dumper(yaml.SafeDumper):
    """As kubectl prints: PEM and other text of several lines as literal blocks."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _represent)


def written(manifest: Object) -> str:
    """A manifest as a text of its own."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)


def changed(text: str, kind: str, name: str, edit: Callable[[Object], None], *, is_json: bool = False) -> str:
    """`text` with the manifest of this kind and name edited. Raises CannotEdit."""
    wanted = _plain(text)
    edit(_only(wanted, kind, name))
    made = _changed_json(text, kind, name, edit) if is_json else _changed_yaml(text, kind, name, edit)
    try:
        got = _plain(made)
    except yaml.YAMLError as error:
        raise CannotEdit("what comes out is not YAML") from error
    if got != wanted:
        raise CannotEdit("its YAML is too special to keep its comments")
    return made


def _changed_json(text: str, kind: str, name: str, edit: Callable[[Object], None]) -> str:
    body: Any = json.loads(text)
    edit(_only([body], kind, name))
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _changed_yaml(text: str, kind: str, name: str, edit: Callable[[Object], None]) -> str:
    windows = "\r\n" in text
    parts = _DOCUMENT.split(text.replace("\r\n", "\n") if windows else text)
    for number, one in enumerate(parts):
        first = _FIRST_LINE.match(one)
        head = first[0] if first else ""
        body = one[len(head) :]
        round_trip = _round_trip(body)
        try:
            loaded: Any = round_trip.load(body)  # pyright: ignore[reportUnknownMemberType] - untyped in ruamel
        except YAMLError as error:
            raise CannotEdit("it is not YAML 1.2") from error
        found = _matching(_flat([loaded]), kind, name)
        if not found:
            continue
        edit(found[0])
        _as_blocks(found[0])
        out = io.StringIO()
        round_trip.dump(loaded, out)  # pyright: ignore[reportUnknownMemberType] - untyped in ruamel
        parts[number] = head + out.getvalue()
        made = "".join(parts)
        return made.replace("\n", "\r\n") if windows else made
    raise CannotEdit("it is written in an unusual way")


def _round_trip(text: str) -> YAML:
    made = YAML()
    made.preserve_quotes = True
    made.width = _WIDTH
    dashes = _LIST.search(text)
    offset = max(len(dashes[2]) - len(dashes[1]), 0) if dashes else 0
    made.indent(mapping=2, sequence=offset + 2, offset=offset)  # pyright: ignore[reportUnknownMemberType] - untyped
    return made


def _as_blocks(value: Any) -> None:  # noqa: ANN401 - whatever YAML holds
    """New texts of several lines become literal blocks; ruamel has types of its own for those that were there."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        pairs = list(cast("dict[Any, Any]", value).items())
    elif isinstance(value, list):
        pairs = list(enumerate(cast("list[Any]", value)))
    for key, one in pairs:
        if type(one) is str and "\n" in one:
            value[key] = LiteralScalarString(one)
        else:
            _as_blocks(one)


def _plain(text: str) -> list[Any]:
    """As `letterlock up` reads it, edited copies apart from each other."""
    return [copy.deepcopy(one) for one in yaml.safe_load_all(text)]


def _only(documents: list[Any], kind: str, name: str) -> Object:
    found = _matching(_flat(documents), kind, name)
    if not found:
        raise CannotEdit("it is not there any more")
    return found[0]


def _flat(documents: list[Any]) -> Iterator[Any]:
    """Every manifest, those of a List among them."""
    for one in documents:
        if isinstance(one, dict) and cast("Object", one).get("kind") == "List":
            yield from cast("Object", one).get("items") or []
        else:
            yield one


def matches(manifest: Object, kind: str, name: str | None = None) -> bool:
    """Whether it is of this kind, of ours or Kubernetes' own, and has this name; cert-manager has Certificates too."""
    version = "v1" if kind in {"Secret", "ConfigMap"} else API_VERSION
    if (manifest.get("apiVersion"), manifest.get("kind")) != (version, kind):
        return False
    metadata: Any = manifest.get("metadata")
    named: Any = cast("Object", metadata).get("name") if isinstance(metadata, dict) else None
    return name is None or named == name


def _matching(manifests: Iterator[Any], kind: str, name: str) -> list[Object]:
    return [
        cast("Object", one)
        for one in manifests
        if isinstance(one, dict) and matches(cast("Object", one), kind, name)
    ]
