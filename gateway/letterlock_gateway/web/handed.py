"""What the supervisor hands to the process of the pages, and how that looks there: everything but others' keys.

`message` is the supervisor's side, `Handed.of` the pages'. Of certificates only the public part goes over; the one pair
is that of the pages themselves.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from letterlock_api import htpasswd
from letterlock_api.snapshot import ServedCertificate, Snapshot, SnapshotManagement, content_hash, decode
from letterlock_gateway import channel
from letterlock_gateway.mount import MountedSet
from letterlock_gateway.running import most_specific

_CERTIFICATES: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def served(mounted: MountedSet, member: str) -> str:
    """Names what the pages of `member` are served by: as long as it is equal, nothing about serving changes.

    Empty: there is no HTTPS management.
    """
    management = mounted.snapshot.management
    if management is None:
        return ""
    authorities = [mounted.snapshot.trust[name].file for name in _trusted(mounted.snapshot, management)]
    return content_hash(f"{member} {management.model_dump_json()} {authorities}".encode())


def resources(snapshot: Snapshot) -> frozenset[str]:
    """The resources (`Kind/name`) that are not what they say while the pages are not served."""
    if snapshot.management is None:
        return frozenset()
    return frozenset(
        {f"MailGateway/{snapshot.gateway}", f"Certificate/{snapshot.management.certificate.name}"}
    )


def message(mounted: MountedSet, member: str, secret: bytes) -> bytes:
    """The message for the channel. `secret`: what all members of the gateway share, for sessions that all of them know.

    Raises ValueError where there is no pair for `member`, and no management.
    """
    snapshot = mounted.snapshot
    management = snapshot.management
    file = management.certificate.file_for(member) if management is not None else None
    if management is None or file is None:
        raise ValueError("there is no management to serve, or no certificate for this member")
    chains = {
        name: b"".join(_CERTIFICATES.findall(mounted.files.get(name, b"")))
        for one in snapshot.served()
        for name in ([one.file] if one.file else one.files.values())
    }
    chains |= {one.file: mounted.files.get(one.file, b"") for one in snapshot.trust.values()}
    users = mounted.files.get(management.users_file, b"") if management.users_file else b""
    return channel.encode(
        {
            "kind": "set",
            "served": served(mounted, member),
            "hash": mounted.hash,
            "content": b64encode(mounted.content).decode(),
            "certificates": {name: b64encode(pem).decode() for name, pem in chains.items()},
            "pair": b64encode(mounted.files[file]).decode(),
            "users": b64encode(users).decode(),
            "secret": b64encode(secret).decode(),
        }
    )


@dataclass(frozen=True)
class Handed:
    """What the pages show and are served by."""

    served: str
    hash: str
    snapshot: Snapshot
    management: SnapshotManagement
    certificates: Mapping[str, bytes]
    """Chains and CA lists, PEM, by file name."""
    pair: bytes = field(repr=False)
    users: Mapping[str, str] = field(repr=False)
    """bcrypt hash by user name."""
    secret: bytes = field(repr=False)
    by_domain: Mapping[str, int]
    """Index among the snapshot's destinations of each domain entry."""

    @classmethod
    def of(cls, given: channel.Message) -> Self:
        """The reverse of `message`. Raises ValueError."""
        snapshot = decode(b64decode(given["content"]))
        if snapshot.management is None:
            raise ValueError("there is no management in it")
        return cls(
            served=given["served"],
            hash=given["hash"],
            snapshot=snapshot,
            management=snapshot.management,
            certificates={name: b64decode(pem) for name, pem in given["certificates"].items()},
            pair=b64decode(given["pair"]),
            users=htpasswd.parse(b64decode(given["users"])).hashes,
            secret=b64decode(given["secret"]),
            by_domain={
                domain: index for index, one in enumerate(snapshot.destinations) for domain in one.domains
            },
        )

    @property
    def signs_in(self) -> bool:
        """Whether anybody can sign in at all; nothing is shown where nobody can."""
        return bool(self.users) or self.management.client_certificates

    def trusted(self) -> list[bytes]:
        """The CA lists, PEM, that client certificates are verified against."""
        return [
            self.certificates[self.snapshot.trust[name].file]
            for name in _trusted(self.snapshot, self.management)
        ]

    def chain(self, one: ServedCertificate, member: str) -> bytes:
        """The certificates (PEM) that `member` serves for `one`; empty: it has none."""
        return self.certificates.get(one.file_for(member) or "", b"")

    def destination_index(self, domain: str) -> int | None:
        """Which destination holds for `domain` (lower case, A-labels), as delivery chooses it."""
        return most_specific(self.by_domain, domain)


def _trusted(snapshot: Snapshot, management: SnapshotManagement) -> list[str]:
    if not management.client_certificates:
        return []
    if management.client_ca_lists:
        return sorted(name for name in management.client_ca_lists if name in snapshot.trust)
    return sorted(name for name, one in snapshot.trust.items() if one.is_global)
