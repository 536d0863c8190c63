"""What a member's metrics say of this very moment: measured when somebody asks, and at no other time.

Called by `member`, for each answer at `/metrics`.
"""

import contextlib
import os
from pathlib import Path

from letterlock_api import authorities
from letterlock_gateway.mount import MountedSet
from letterlock_gateway.report.metrics import Metrics
from letterlock_gateway.spool import tracking
from letterlock_gateway.spool.schema import DATABASE


def measure_spool(metrics: Metrics, spool: Path, now: float) -> None:
    """How old the queue is, and how large. What cannot be read just now stays as it was."""
    with contextlib.suppress(tracking.SpoolUnreadable):
        since = tracking.oldest(spool)
        metrics.gauge("letterlock_queue_age_seconds", max(0.0, now - since) if since is not None else 0)
    with contextlib.suppress(OSError):
        room = os.statvfs(spool)
        metrics.gauge("letterlock_spool_available_bytes", room.f_bavail * room.f_frsize)
        sizes = [one.stat().st_size for one in spool.glob(f"*/{DATABASE}*")]
        metrics.gauge("letterlock_spool_bytes", sum(sizes))


def certificate_ends(mounted: MountedSet, member: str) -> dict[str, float]:
    """When each certificate that `member` uses ends (of its chain, what ends first), Unix seconds, by name.

    The demo certificate has the name `demo`.
    """
    found: dict[str, float] = {}
    for one in mounted.snapshot.served():
        file = one.file_for(member)
        with contextlib.suppress(*authorities.PARSE_ERRORS):
            chain = authorities.load_all(mounted.files.get(file or "", b""))
            if chain:
                found[one.name or "demo"] = min(each.not_valid_after_utc.timestamp() for each in chain)
    return found
