"""Certificates and CAs of a set that will end: what `alerting` watches. Pure but for the parsing.

Those of all members, not of this one alone: one member tells for the gateway.
"""

from collections.abc import Iterator

from cryptography import x509

from letterlock_api import authorities
from letterlock_api.snapshot import ServedCertificate, Snapshot
from letterlock_gateway.mount import MountedSet
from letterlock_gateway.report import endings
from letterlock_gateway.report.endings import Watched


def watched(mounted: MountedSet) -> list[Watched]:
    """All of them, each once. Of a set that has been built: every file is there, and can be read."""
    found: list[Watched] = []
    for served in _served(mounted.snapshot):
        for file in [served.file] if served.file else sorted(served.files.values()):
            chain = x509.load_pem_x509_certificates(mounted.files[file])
            found += endings.watched("Certificate", served.name, chain)
    for name, trusted in sorted(mounted.snapshot.trust.items()):
        found += endings.watched("CAList", name, authorities.load_all(mounted.files[trusted.file]))
    return list({one.key: one for one in found}.values())


def _served(snapshot: Snapshot) -> Iterator[ServedCertificate]:
    for listener in snapshot.listeners:
        yield from listener.certificates
    for directory in snapshot.directories:
        if directory.certificate is not None:
            yield directory.certificate
    if snapshot.delivery.certificate is not None:
        yield snapshot.delivery.certificate
