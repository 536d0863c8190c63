"""Writing that a crash never leaves half done. Called by `state`, `mounts` and `folder_target`.

Files are replaced by renaming; a set of files by turning one symbolic link, as kubelets do.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700


def make_directory(path: Path) -> Path:
    """`path`, made where it is missing, readable by us alone."""
    path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    return path


def write_file(path: Path, content: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Put `content` at `path` as a whole: readers see the old file or the new one."""
    make_directory(path.parent)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_new(scratch, content, mode)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_directory(path.parent)


def swap_directory(link: Path, files: Mapping[str, bytes], target_name: str) -> None:
    """Make `link` a symbolic link to a new directory `target_name` beside it that holds exactly `files`.

    Files first, then the link, in one rename; what the link pointed to before is removed after that.
    `target_name` must be new. Whoever resolved the link before reads one consistent set until that removal.
    """
    parent = make_directory(link.parent)
    target = parent / target_name
    target.mkdir(mode=PRIVATE_DIRECTORY)
    for name, content in files.items():
        _write_new(target / name, content)
    _sync_directory(target)
    before = link.readlink().name if link.is_symlink() else None
    scratch = parent / f"{link.name}_tmp"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target_name)
    scratch.replace(link)
    _sync_directory(parent)
    if before is not None and before != target_name:
        shutil.rmtree(parent / before, ignore_errors=True)


def remove_link(link: Path) -> None:
    """Remove a link that `swap_directory` made, and then what it points to. One that is not there is none."""
    if not link.is_symlink():
        return
    target = link.parent / link.readlink().name
    link.unlink()
    _sync_directory(link.parent)
    shutil.rmtree(target, ignore_errors=True)


def _write_new(path: Path, content: bytes, mode: int = PRIVATE_FILE) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make renames and new names in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
