"""Certificates and CAs of a set that will end: what `alerting` watches. Pure.

Those of all members, not of this one alone: one member tells for the gateway. What cannot be read is passed over: the
set has been built, so it is some other member's, who says so.
"""

import contextlib
from collections.abc import Iterator

from letterlock_api import authorities
from letterlock_api.snapshot import Snapshot
from letterlock_gateway.mount import MountedSet
from letterlock_gateway.report import endings
from letterlock_gateway.report.endings import Watched


def watched(mounted: MountedSet) -> list[Watched]:
    """All of them, each once."""
    found: list[Watched] = []
    for kind, name, file in _files(mounted.snapshot):
        with contextlib.suppress(*authorities.PARSE_ERRORS):
            found += endings.watched(kind, name, authorities.load_all(mounted.files.get(file, b"")))
    return list({one.key: one for one in found}.values())


def _files(snapshot: Snapshot) -> Iterator[tuple[endings.Kind, str, str]]:
    for one in snapshot.served():
        for file in [one.file] if one.file else sorted(one.files.values()):
            yield "Certificate", one.name, file
    for name, trusted in sorted(snapshot.trust.items()):
        yield "CAList", name, trusted.file
