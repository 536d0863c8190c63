"""Hands files to a member exactly as a kubelet mounts them, so that members need not know where they run.

Called by `reconcile`. The layout (Kubernetes' AtomicWriter): a new directory with a time stamp for a name,
`..data` pointing at it, and beside it one link per file that goes through `..data`.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from letterlock_cli.up.atomic import make_directory, swap_directory

DATA_LINK: Final = "..data"


def publish(mount: Path, files: Mapping[str, bytes], now: datetime) -> bool:
    """Make `mount` hold exactly `files`. True if that changed anything; doing it again changes nothing."""
    if current(mount) == dict(files):
        return False
    make_directory(mount)
    stamp = now.strftime("..%Y_%m_%d_%H_%M_%S.%f")
    swap_directory(mount / DATA_LINK, files, stamp)
    for name in files:
        visible = mount / name
        if not visible.is_symlink():
            visible.symlink_to(f"{DATA_LINK}/{name}")
    for visible in mount.iterdir():
        if not visible.name.startswith("..") and visible.name not in files:
            visible.unlink()
    return True


def current(mount: Path) -> dict[str, bytes] | None:
    """The files that `mount` holds now; None: none have been published yet."""
    directory = mount / DATA_LINK
    if not directory.is_dir():
        return None
    return {path.name: path.read_bytes() for path in directory.iterdir()}
