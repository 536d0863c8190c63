"""Mounted sets for tests: a snapshot with its files, written and swapped as a kubelet does it.

`Files` collects the files that a snapshot names, `snapshot(…)` makes a small one, `Mount` is the directory.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

from cryptography import x509

from letterlock_api.snapshot import (
    SNAPSHOT_FILE,
    AccessGroup,
    Destination,
    ReceptionPolicy,
    RecipientRule,
    ServedCertificate,
    Snapshot,
    SnapshotDelivery,
    SnapshotListener,
    TrustList,
    ca_file_name,
    tls_file_name,
)
from letterlock_api.state import (
    INTERNAL_CA_FILE,
    INTERNAL_CERTIFICATE_FILE,
    INTERNAL_CLIENT_NAME,
    INTERNAL_SERVER_NAME,
)
from tests.harness.certificates import Authority, leaf_of

# Names of directories: one count for all mounts, as a test may make a second one in the same place.
_NUMBERS = count()


@dataclass
class Files:
    """The files beside a snapshot, and the entries that name them."""

    content: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def certificate(self, pem: bytes, name: str = "public", *, demo: bool = False) -> ServedCertificate:
        """A certificate for all members, from a key with its chain (PEM)."""
        file = tls_file_name(pem)
        self.content[file] = pem
        try:
            extension = leaf_of(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = extension.value.get_values_for_type(x509.DNSName)
        except (ValueError, IndexError, x509.ExtensionNotFound):
            names = []
        return ServedCertificate(name=name, file=file, names=names, demo=demo)

    def trust(self, *pems: bytes, is_global: bool = True) -> TrustList:
        """An enabled CA list."""
        text = b"\n".join(pems)
        file = ca_file_name(text)
        self.content[file] = text
        return TrustList(file=file, is_global=is_global)


def policy(name: str = "accept", **changes: Any) -> ReceptionPolicy:
    """A mail-flow policy: accepts, no TLS."""
    fields: dict[str, Any] = {"name": name, "behavior": "Accept"}
    return ReceptionPolicy(**(fields | changes))


def listener(port: int, name: str = "public", **changes: Any) -> SnapshotListener:
    """A listener on 127.0.0.1 with one policy for everybody; takes mail for all domains below `.example`."""
    policies: Sequence[ReceptionPolicy] = changes.pop("policies", None) or [policy()]
    fields: dict[str, Any] = {
        "name": name,
        "type": "Public",
        "address": "127.0.0.1",
        "port": port,
        "policies": list(policies),
        "groups": [AccessGroup(name="all", senders=["ALL"], policy=policies[0].name)],
        "recipients": [RecipientRule(match=[".example"], accept=True)],
    }
    return SnapshotListener(**(fields | changes))


def destination(*domains: str, **changes: Any) -> Destination:
    """A destination; `*` unless domains are given."""
    fields: dict[str, Any] = {"resource": "", "domains": list(domains) or ["*"]}
    return Destination(**(fields | changes))


def snapshot(files: Files | None = None, **changes: Any) -> Snapshot:
    """A snapshot without listeners and with the built-in destination, naming all of `files`."""
    fields: dict[str, Any] = {
        "gateway": "default",
        "hostname": "mx.letterlock.example",
        "destinations": [destination()],
        "delivery": SnapshotDelivery(),
        "files": sorted(files.content) if files else [],
    }
    return Snapshot(**(fields | changes))


@dataclass(frozen=True)
class Internal:
    """The internal CA of a gateway, with the identities of its members and of the operator."""

    authority: Authority = field(default_factory=Authority)

    def member_files(self) -> dict[str, bytes]:
        """What a member finds in its mount."""
        return {
            INTERNAL_CERTIFICATE_FILE: self.authority.issue(INTERNAL_SERVER_NAME),
            INTERNAL_CA_FILE: self.authority.pem,
        }

    def operator_identity(self) -> bytes:
        """Key and certificate (PEM) that the operator presents."""
        return self.authority.issue(INTERNAL_CLIENT_NAME)


class Mount:
    """A mount directory. Every `publish` is one swap of `..data`, as the kubelet's atomic writer does it."""

    def __init__(self, directory: Path, always: Mapping[str, bytes] | None = None) -> None:
        self.directory = directory
        self._always = dict(always or {})
        directory.mkdir(parents=True, exist_ok=True)

    @classmethod
    def with_identity(cls, directory: Path, internal: Internal) -> Self:
        """A mount in which the member's internal identity stands, in every set."""
        return cls(directory, internal.member_files())

    def publish(self, taken: Snapshot, files: Files | None = None) -> str:
        """Swap to this snapshot and these files. Gives the snapshot's hash."""
        content = {SNAPSHOT_FILE: taken.encode(), **(files.content if files else {})}
        self.swap(content)
        return taken.hash()

    def swap(self, content: Mapping[str, bytes]) -> None:
        """Swap to exactly these files, and those that are always there; the directory before is removed."""
        link = self.directory / "..data"
        before = link.resolve() if link.is_symlink() else None
        fresh = self.directory / f"..set-{next(_NUMBERS)}"
        fresh.mkdir()
        everything = self._always | dict(content)
        for name, data in everything.items():
            (fresh / name).write_bytes(data)
        staged = self.directory / "..data_tmp"
        staged.symlink_to(fresh.name)
        staged.replace(link)
        for name in everything:
            visible = self.directory / name
            if not visible.is_symlink():
                visible.symlink_to(os.path.join("..data", name))  # noqa: PTH118 - "..data" is a link, not a parent
        if before is not None:
            for old in before.iterdir():
                old.unlink()
            before.rmdir()
