"""Large bodies in files of their own, synced before the commit that names them. Used by the spool alone."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from letterlock_gateway.spool.schema import sync_directory

# Above this a body has its own file: SQLite would write it twice (log, then database).
IN_DATABASE: Final = 64 * 1024
# Pieces that are written as they are; more of them are small, and cheaper put together.
_AT_ONCE: Final = 64


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
        file = OpenBody(self, mid)
        try:
            file.write([body])
            file.sync()
        except OSError:
            file.remove()
            raise

    def read(self, mid: int) -> bytes:
        """The body of `mid`. Raises OSError."""
        return self.path(mid).read_bytes()

    def remove(self, mid: int) -> None:
        """Remove the body of `mid` if it is there."""
        with contextlib.suppress(OSError):
            self.path(mid).unlink(missing_ok=True)

    def keep_only(self, mids: Iterable[int]) -> None:
        """Remove what no message names: a crash between file and commit leaves such files."""
        wanted = {str(mid) for mid in mids}
        for path in self._directory.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def path(self, mid: int) -> Path:
        """Where the body of `mid` lies."""
        return self._directory / str(mid)

    def sync(self) -> None:
        """Have the names of the files on disk. Raises OSError."""
        sync_directory(self._directory)


class OpenBody:
    """A file that is being written, by one thread at a time."""

    def __init__(self, bodies: Bodies, mid: int) -> None:
        self._bodies = bodies
        self._mid = mid
        self._descriptor: int | None = None

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write at the end; the first call makes the file. Raises OSError."""
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self._bodies.path(self._mid), flags, 0o600)
        rest = list(pieces)
        if len(rest) > _AT_ONCE:
            rest = [b"".join(rest)]
        while rest:
            written = os.writev(self._descriptor, rest)
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if written:
                rest[0] = rest[0][written:]

    def sync(self) -> None:
        """Have all of it on disk, and close it. Raises OSError."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)
            self._close()
        self._bodies.sync()

    def remove(self) -> None:
        """Close and remove it."""
        with contextlib.suppress(OSError):
            self._close()
        self._bodies.remove(self._mid)

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
