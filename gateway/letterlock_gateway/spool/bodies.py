"""Large bodies in files of their own, synced before the commit that names them. Used by the spool alone."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from letterlock_gateway.spool.schema import sync_directory

# Above this a body has its own file: SQLite would write it twice (log, then database).
IN_DATABASE: Final = 64 * 1024


class Bodies:
    """The files, one a message, named by its number."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        new = not directory.exists()
        directory.mkdir(mode=0o700, exist_ok=True)
        if new:
            sync_directory(directory.parent)

    def write(self, mid: int, body: bytes) -> None:
        """Write and sync the body of `mid`. Raises OSError, and leaves nothing behind then."""
        path = self._path(mid)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                rest = memoryview(body)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_directory(self._directory)
        except OSError:
            self.remove(mid)
            raise

    def read(self, mid: int) -> bytes:
        """The body of `mid`. Raises OSError."""
        return self._path(mid).read_bytes()

    def remove(self, mid: int) -> None:
        """Remove the body of `mid` if it is there."""
        with contextlib.suppress(OSError):
            self._path(mid).unlink(missing_ok=True)

    def keep_only(self, mids: Iterable[int]) -> None:
        """Remove what no message names: a crash between file and commit leaves such files."""
        wanted = {str(mid) for mid in mids}
        for path in self._directory.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def _path(self, mid: int) -> Path:
        return self._directory / str(mid)
