"""Manifests in a folder that `letterlock up` serves. Called through `targets`.

A new manifest gets a file of its own. One that is there is changed where it stands, and what people wrote around
it stays. Files change as a whole (`up` may read at any moment); those with Secrets are for their owner alone.
"""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import yaml

from letterlock_cli import yaml_edits
from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object
from letterlock_cli.up import folder
from letterlock_cli.up.atomic import PRIVATE_FILE, write_file

if TYPE_CHECKING:
    from letterlock_cli.targets import Edit

_PUBLIC_FILE: Final = 0o644


class FolderTarget:
    """The manifests in `directory`."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise CommandError(f"{directory} is not a folder: give the one with the manifests")
        self._directory = directory
        self._unreadable: set[Path] = set()

    def find(self, kind: str, name: str) -> Object | None:
        """See Target."""
        found = self._locate(kind, name)
        return copy.deepcopy(found[1]) if found is not None else None

    def all(self, kind: str) -> list[Object]:
        """See Target."""
        return [manifest for _, manifest in self._manifests() if yaml_edits.matches(manifest, kind)]

    def create(self, manifest: Object) -> str:
        """See Target."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        there = self._locate(kind, name)
        if there is not None:
            raise CommandError(f"{kind}/{name} is there already, in {there[0]}")
        path = self._free_file(kind, name)
        mode = PRIVATE_FILE if kind == "Secret" else _PUBLIC_FILE
        _write(path, yaml_edits.written(manifest), mode)
        return f"{kind}/{name} written to {path}"

    def change(self, kind: str, name: str, edit: "Edit") -> str:
        """See Target."""
        there = self._locate(kind, name)
        if there is None:
            raise CommandError(f"there is no {kind} {name} in {self._directory}")
        path, present = there[0], there[1]
        wanted = copy.deepcopy(present)
        edit(wanted)
        if wanted == present:
            return f"{kind}/{name} unchanged"
        real = path.resolve()  # a link stays a link
        try:
            text = real.read_bytes().decode()
            mode = real.stat().st_mode & 0o777
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"cannot read {path}: {error}") from error
        try:
            changed = yaml_edits.changed(text, kind, name, edit, is_json=path.suffix == ".json")
        except yaml_edits.CannotEdit as error:
            raise CommandError(f"cannot change {kind}/{name} in {path}: {error}; edit it by hand") from error
        _write(real, changed, mode & (0o600 if kind == "Secret" else 0o777))
        return f"{kind}/{name} changed in {path}"

    def own(self, kind: str, name: str, owner: Object) -> None:
        """See Target. A folder knows no owners."""

    def _locate(self, kind: str, name: str) -> tuple[Path, Object] | None:
        for path, manifest in self._manifests():
            if yaml_edits.matches(manifest, kind, name):
                return path, manifest
        return None

    def _manifests(self) -> Iterator[tuple[Path, Object]]:
        for path in folder.files(self._directory):
            try:
                found = list(folder.documents(path.read_bytes()))
            except (OSError, yaml.YAMLError) as error:
                if path not in self._unreadable:
                    self._unreadable.add(path)
                    reason = " ".join(str(error).split())
                    print(f"warning: {path} cannot be read and is passed over: {reason}", file=sys.stderr)
                continue
            for one in found:
                if isinstance(one, dict):
                    yield path, cast("Object", one)

    def _free_file(self, kind: str, name: str) -> Path:
        stem = f"{kind.lower()}-{name}"
        numbered = (self._directory / f"{stem}-{number}.yaml" for number in range(2, 1000))
        for path in (self._directory / f"{stem}.yaml", *numbered):
            if not path.exists() and not path.is_symlink():
                return path
        raise CommandError(f"{self._directory} is full of files like {stem}.yaml: tidy it up")


def _write(path: Path, text: str, mode: int) -> None:
    try:
        write_file(path, text.encode(), mode=mode)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error
