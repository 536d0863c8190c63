"""Observes the folder: manifests become resources, Secrets and ConfigMaps, as an API server would hold them.

Called by `reconcile` at every change. A file is taken as a whole or not at all: where anything in it is
wrong, its last good copy goes on counting and the error names the file: a slip of the pen takes no listener
away.
"""

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import yaml

from letterlock_api import rules
from letterlock_api.base import API_VERSION, GROUP
from letterlock_api.kinds import KINDS, AnyResource
from letterlock_cli.failures import CommandError
from letterlock_cli.up.atomic import write_file
from letterlock_operator.world import InvalidResource, Keep

# What `kubectl apply -f DIR` takes: these suffixes, no subfolders.
SUFFIXES: Final = (".yaml", ".yml", ".json")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

type Complain = Callable[[str, bool], None]


class _Unique(_LOADER):
    """Takes no key twice, as kubectl does not (YAML 1.2.2, section 3.2.1.1): of two `tls:` one would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is there twice: keep one of them", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@dataclass(frozen=True)
class FileProblem:
    """A file that was not taken, or a part of it that means nothing here."""

    file: str
    problem: str
    taken: bool = False
    """Whether the rest of the file counts all the same."""


@dataclass
class Contents:
    """What one file, or the whole folder, holds."""

    resources: dict[tuple[str, str], AnyResource] = field(default_factory=dict[tuple[str, str], AnyResource])
    secrets: dict[str, Keep] = field(default_factory=dict[str, Keep])
    config_maps: dict[str, Keep] = field(default_factory=dict[str, Keep])
    invalid: list[InvalidResource] = field(default_factory=list[InvalidResource])
    problems: list[FileProblem] = field(default_factory=list[FileProblem])
    origin: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """The file of each object, by (kind, name)."""


def files(folder: Path) -> list[Path]:
    """The manifests of `folder`, by name. Raises CommandError where it cannot be read."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise CommandError(f"cannot read the folder {folder}: {error.strerror}") from error


def read(folder: Path, last_good: Path) -> Contents:
    """All manifests of `folder`; for a file with a problem its copy in `last_good`, which is kept current.

    Raises CommandError only where the folder itself cannot be listed.
    """
    whole = Contents()
    present = files(folder)
    for path in present:
        content, contents = _read_file(path)
        clashes = [
            f"{kind}/{name} is in {whole.origin[kind, name]} already: keep one of them"
            for kind, name in contents.origin
            if (kind, name) in whole.origin
        ]
        contents.problems += [FileProblem(path.name, clash) for clash in clashes]
        copy = last_good / path.name
        if any(not problem.taken for problem in contents.problems):
            whole.problems += contents.problems
            fallback = _read_file(copy)[1] if copy.is_file() else Contents()
            fallback.invalid = [i for i in contents.invalid if (i.kind, i.name) not in fallback.resources]
            fallback.problems = []
            contents = fallback
        elif not copy.is_file() or copy.read_bytes() != content:
            write_file(copy, content)
        _merge(whole, contents)
    known = {path.name for path in present}
    if last_good.is_dir():
        for copy in last_good.iterdir():
            if copy.name not in known:
                copy.unlink()
    return whole


def _merge(whole: Contents, part: Contents) -> None:
    fresh = {key for key in part.origin if key not in whole.origin}
    whole.resources |= {key: value for key, value in part.resources.items() if key in fresh}
    whole.secrets |= {name: keep for name, keep in part.secrets.items() if ("Secret", name) in fresh}
    whole.config_maps |= {
        name: keep for name, keep in part.config_maps.items() if ("ConfigMap", name) in fresh
    }
    whole.invalid += part.invalid
    whole.problems += part.problems
    whole.origin |= {key: part.origin[key] for key in fresh}


def _read_file(path: Path) -> tuple[bytes, Contents]:
    contents = Contents()

    def problem(text: str, taken: bool = False) -> None:
        contents.problems.append(FileProblem(path.name, text, taken))

    try:
        content = path.read_bytes()
        found = list(documents(content))
    except OSError as error:
        problem(f"cannot be read: {error.strerror}", False)
        return b"", contents
    except yaml.YAMLError as error:
        problem(f"is not YAML: {_where(error)}", False)
        return b"", contents
    for document in found:
        if not isinstance(document, dict):
            problem(
                "holds something that is not a manifest: every document needs apiVersion, kind and metadata"
            )
            continue
        _take(cast("dict[str, Any]", document), path.name, contents, problem)
    return content, contents


def documents(content: bytes) -> Iterator[Any]:
    """Every manifest in a file, those of a List among them. Raises yaml.YAMLError."""
    for document in yaml.load_all(content, Loader=_Unique):
        if document is None:
            continue
        body: Any = document
        if isinstance(body, dict) and cast("dict[str, Any]", body).get("kind") == "List":
            yield from cast("dict[str, Any]", body).get("items") or []
        else:
            yield body


def _take(manifest: dict[str, Any], file: str, contents: Contents, problem: Complain) -> None:
    kind, version = str(manifest.get("kind", "")), str(manifest.get("apiVersion", ""))
    metadata: Any = manifest.get("metadata")
    name = str(cast("dict[str, Any]", metadata).get("name") or "") if isinstance(metadata, dict) else ""
    if not name:
        problem(f"{kind or 'a document'} without metadata.name: give it a name", False)
        return
    if (kind, name) in contents.origin:
        problem(f"{kind}/{name} is in this file twice: keep one of them", False)
        return
    if kind in KINDS and version == API_VERSION:
        contents.origin[kind, name] = file
        try:
            resource = rules.parse(manifest)
            wrong = rules.problems(resource)
        except ValueError as error:
            wrong = [str(error)]
        else:
            contents.resources[kind, name] = resource
        if wrong:
            contents.invalid.append(InvalidResource(kind, name, None, "; ".join(wrong)))
        for text in wrong:
            problem(f"{kind}/{name}: {text}", False)
    elif kind in {"Secret", "ConfigMap"} and version == "v1":
        try:
            keep = _keep(manifest, name, kind)
        except (binascii.Error, ValueError) as error:
            problem(f"{kind}/{name}: its data is not base64: {error}", False)
            return
        (contents.secrets if kind == "Secret" else contents.config_maps)[name] = keep
        contents.origin[kind, name] = file
    elif version.partition("/")[0] == GROUP or kind in KINDS:
        problem(
            f"{kind}/{name}: {version} {kind} is not known: write apiVersion: {API_VERSION} "
            f"and one of {', '.join(KINDS)}",
            False,
        )
    else:
        problem(f"{kind}/{name} is ignored: only Kubernetes knows what it is", True)


def _keep(manifest: dict[str, Any], name: str, kind: str) -> Keep:
    plain, encoded = ("stringData", "data") if kind == "Secret" else ("data", "binaryData")
    texts, blobs = (
        cast("dict[str, Any]", manifest.get(plain) or {}),
        cast("dict[str, Any]", manifest.get(encoded) or {}),
    )
    data = {str(key): base64.b64decode(str(value or ""), validate=True) for key, value in blobs.items()}
    data |= {str(key): str(value).encode() for key, value in texts.items()}
    return Keep(name, data, type=str(manifest.get("type") or "Opaque") if kind == "Secret" else "")


def _where(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return " ".join(str(error).split())
