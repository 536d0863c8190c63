"""Reads a mounted set: `snapshot.json` and the files it names, all of one swap, or not at all.

Called by the supervisor, which alone reads the mount; workers get what it read. A kubelet refreshes a
volume by moving a link `..data` onto a new directory and removing the old one: everything is read from the
one directory that the link leads to. A plain directory without `..data` is read as it is.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from letterlock_api import packing
from letterlock_api.snapshot import SNAPSHOT_FILE, Snapshot, content_hash, decode
from letterlock_api.state import INTERNAL_CA_FILE, INTERNAL_CERTIFICATE_FILE

DATA_LINK: Final = "..data"
# A swap during the reading takes the files away; another swap during the second reading is not expected.
_ATTEMPTS: Final = 5


class MountRefused(Exception):  # noqa: N818 - "refused" is the word of the member's state
    """A set that is not taken. The text says why, for people.

    `hash`: its snapshot's, empty where there is none.
    """

    def __init__(self, reason: str, snapshot_hash: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hash = snapshot_hash


class MountEmpty(MountRefused):
    """There is no snapshot (yet): nothing to take, and nothing wrong with it either."""


@dataclass(frozen=True)
class MountedSet:
    """A complete set, as it was mounted."""

    snapshot: Snapshot
    files: Mapping[str, bytes]
    """Every file that the snapshot names, by name."""
    hash: str
    """Of `content`: what operator and state call it by."""
    content: bytes
    """The bytes of `snapshot.json`, unpacked."""


@dataclass(frozen=True)
class Identity:
    """The member's own certificate with its key, and the CA, for the state endpoint. PEM."""

    certificate: bytes
    ca: bytes


def read(directory: Path) -> MountedSet:
    """The set in `directory`, complete and each file with the content that its name promises.

    Raises MountEmpty without `snapshot.json`, MountRefused for anything else that keeps the set from being
    taken.
    """
    for attempt in range(_ATTEMPTS):
        root = _root(directory)
        try:
            return _read(root)
        except MountRefused:
            if _root(directory) == root or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def read_identity(directory: Path) -> Identity | None:
    """The member's own identity; None: it is not there (yet), or not readable."""
    root = _root(directory)
    try:
        return Identity(
            certificate=(root / INTERNAL_CERTIFICATE_FILE).read_bytes(),
            ca=(root / INTERNAL_CA_FILE).read_bytes(),
        )
    except OSError:
        return None


def fingerprint(directory: Path) -> object:
    """Equal as long as the mount holds the same: cheap enough to ask often."""
    root = _root(directory)
    try:
        entries = [(entry.name, entry.stat()) for entry in os.scandir(root)]
    except OSError:
        return None
    return root, sorted((name, one.st_ino, one.st_size, one.st_mtime_ns) for name, one in entries)


def assemble(content: bytes, files: Mapping[str, bytes]) -> MountedSet:
    """A set from the bytes of `snapshot.json` and its files. Raises MountRefused as `read` does."""
    return _complete(_decode(content), content, files)


def _read(root: Path) -> MountedSet:
    try:
        content = (root / SNAPSHOT_FILE).read_bytes()
    except FileNotFoundError as error:
        raise MountEmpty(f"there is no {SNAPSHOT_FILE} yet") from error
    except OSError as error:
        raise MountRefused(f"{SNAPSHOT_FILE} cannot be read: {error.strerror}") from error
    content = _unpacked(content)
    snapshot = _decode(content)
    files: dict[str, bytes] = {}
    for name in snapshot.files:
        if "/" in name or name.startswith("."):
            raise MountRefused(f"{name!r} is no name of a file in the mount", content_hash(content))
        try:
            files[name] = (root / name).read_bytes()
        except FileNotFoundError:
            continue  # named below
        except OSError as error:
            raise MountRefused(
                f"file {name} cannot be read: {error.strerror}", content_hash(content)
            ) from error
    return _complete(snapshot, content, files)


def _unpacked(content: bytes) -> bytes:
    try:
        return packing.unpack(content)
    except ValueError as error:
        raise MountRefused(f"{SNAPSHOT_FILE} cannot be used: {error}", content_hash(content)) from error


def _decode(content: bytes) -> Snapshot:
    try:
        return decode(content)
    except ValueError as error:
        reason = f"{SNAPSHOT_FILE} cannot be used: {_in_one_line(error)}"
        raise MountRefused(reason, content_hash(content)) from error


def _complete(snapshot: Snapshot, content: bytes, files: Mapping[str, bytes]) -> MountedSet:
    digest = content_hash(content)
    for name in snapshot.files:
        if name not in files:
            raise MountRefused(f"file {name} is not there (yet)", digest)
        if _hash_in(name) != content_hash(files[name]):
            raise MountRefused(f"file {name} does not have the content that its name promises", digest)
    named = {name: files[name] for name in snapshot.files}
    return MountedSet(snapshot=snapshot, files=named, hash=digest, content=content)


def _root(directory: Path) -> Path:
    link = directory / DATA_LINK
    return link.resolve() if link.is_symlink() else directory


def _hash_in(name: str) -> str:
    """The hash in `tls-<hash>.pem`."""
    return name.rpartition("-")[2].partition(".")[0]


def _in_one_line(error: ValueError) -> str:
    """Pydantic's messages have a line per place; people get the first places in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3]) or type(error).__name__
