"""A disk that is really full: the spool on a small file system of its own. `make durability` runs it (it mounts)."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import waiting
from tests.harness.certificates import Authority
from tests.mail import clients
from tests.mail.conftest import authority
from tests.mail.test_durability import attempts, between, load, settle

__all__ = ["authority"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The spool's directory, on a file system of 48 MiB."""
    spool = tmp_path / "spool"
    spool.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(spool)], check=True)
    yield spool
    subprocess.run(["umount", "--lazy", str(spool)], check=True)


def test_a_full_disk_refuses_for_now_and_loses_nothing(
    tmp_path: Path, authority: Authority, small_disk: Path
) -> None:
    with between(tmp_path, authority) as made:
        with load(made) as record:
            for left in (1 << 20, 0):  # less than the reserve, and then nothing at all
                waiting.until(clients.after(record, 30), what="messages", seconds=60)
                tried = attempts(record, 30)
                fill(small_disk / "filler", left)
                waiting.until(tried, what="attempts on the full disk", seconds=60)
                (small_disk / "filler").unlink()
        assert any("(452" in one for one in record.failures)
        assert not [one for one in record.failures if "SMTPDataError before 250: (5" in one]
        ledger = settle(made, record)
        assert ledger.copies() == {}
        print(f"{len(record.acknowledged)} acknowledged, {len(record.failures)} refused, 0 lost, none twice")


def fill(file: Path, left: int) -> None:
    """Write zeros until only `left` bytes are free."""
    with file.open("ab", buffering=0) as filler:
        for size in (1 << 20, 1 << 12):
            try:
                while size <= 1 << 12 or free(file.parent) > left + size:
                    if free(file.parent) <= left:
                        return
                    filler.write(bytes(size))
            except OSError:
                return


def free(directory: Path) -> int:
    """Bytes."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize
