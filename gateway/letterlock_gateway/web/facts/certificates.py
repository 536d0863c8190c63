"""Certificates and CAs of a set, as pages show them: who uses what, whole chains, what ends when."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from letterlock_api import authorities
from letterlock_api.snapshot import ServedCertificate, Snapshot
from letterlock_gateway.report import endings
from letterlock_gateway.report.endings import Watched
from letterlock_gateway.web.handed import Handed


def watched(handed: Handed) -> list[Watched]:
    """All that will end, each once; the same that alerts tell of (`manage.in_use`)."""
    found: list[Watched] = []
    for one in certificates(handed):
        for pem in one.chains.values():
            try:
                found += endings.watched("Certificate", one.name, authorities.load_all(pem))
            except authorities.Unreadable:
                continue
    for name, trusted in handed.snapshot.trust.items():
        try:
            listed = authorities.load_all(handed.certificates.get(trusted.file, b""))
        except authorities.Unreadable:
            continue
        found += endings.watched("CAList", name, listed)
    return list({one.key: one for one in found}.values())


@dataclass
class Served:
    """A certificate that members use."""

    name: str
    """Of the resource; empty: the demo certificate."""
    demo: bool
    chains: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """PEM by member; under the empty name what all members share."""
    uses: list[str] = field(default_factory=list[str])
    """What uses it, for people: `Listener public`."""


def certificates(handed: Handed) -> list[Served]:
    """Every certificate that is in use, by name; the demo certificate last."""
    found: dict[str, Served] = {}
    for use, one in _uses(handed.snapshot):
        served = found.setdefault(one.name, Served(one.name, one.demo))
        served.uses.append(use)
        files = {"": one.file} if one.file else one.files
        served.chains |= {member: handed.certificates.get(file, b"") for member, file in files.items()}
    return sorted(found.values(), key=lambda one: (one.demo, one.name))


def _uses(snapshot: Snapshot) -> Iterator[tuple[str, ServedCertificate]]:
    for listener in snapshot.listeners:
        for one in listener.certificates:
            yield f"Listener {listener.name}", one
    if snapshot.delivery.certificate is not None:
        yield "Outgoing mail", snapshot.delivery.certificate
    if snapshot.management is not None:
        yield "HTTPS management", snapshot.management.certificate
    for directory in snapshot.directories:
        if directory.certificate is not None:
            yield f"Directory {directory.name}", directory.certificate
