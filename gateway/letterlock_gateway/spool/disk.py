"""How much room there is on the disk for new messages. Used by the spool alone."""

import os
import time
from pathlib import Path
from typing import Final

from letterlock_gateway.spool.failures import SpoolFailed, SpoolFull

# Room on the disk that new mail never takes, so that there is some for what became of the mail that is here:
# bytes, and at most this part of the file system. The log between two checkpoints is 16 MiB.
_RESERVE: Final = 64 << 20
_RESERVE_PART: Final = 20
# Seconds for which what the file system said of its room is believed, less what has been taken since.
_KNOWN: Final = 0.25


class Disk:
    """The file system that the spool lies in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._room, self._known_until = 0, 0.0

    def take(self, size: int) -> None:
        """A new message of `size` octets comes. Raises SpoolFull if it would take of the reserve, and SpoolFailed."""
        now = time.monotonic()
        self._room -= size
        if self._room >= 0 and now < self._known_until:
            return
        try:
            disk = os.statvfs(self._directory)
        except OSError as problem:
            raise SpoolFailed(f"{type(problem).__name__}: {problem}") from problem
        free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        reserve = min(_RESERVE, whole // _RESERVE_PART)
        if whole and free < reserve + size:
            raise SpoolFull(f"only {free >> 20} MiB are free in {self._directory}: make room there")
        self._room, self._known_until = free - reserve - size, now + _KNOWN
