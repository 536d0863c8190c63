"""What peers are verified against: CA certificates, and self-signed ones that are trusted for themselves."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import crypto

from letterlock_api import authorities
from letterlock_api.authorities import Role
from letterlock_gateway.tls.remembered import Good, Remembered

# Chains; a busy gateway speaks with a few hundred hosts again and again.
_REMEMBERED: Final = 1000


@dataclass(frozen=True)
class TrustStore:
    """Trust anchors, ready for OpenSSL."""

    authorities: tuple[x509.Certificate, ...]
    """CAs: roots are anchors, intermediates help to build chains to them."""
    listed: frozenset[bytes]
    """sha256 fingerprints of self-signed certificates: a peer that presents one of them is trusted as it is."""
    _anchors: tuple[crypto.X509, ...] = field(compare=False, repr=False)
    found_good: Remembered[tuple[bytes, ...], Good] = field(
        default_factory=lambda: Remembered(_REMEMBERED), compare=False, repr=False
    )
    """What `verify` found good against these anchors. Other anchors are another store, with nothing in it."""

    @classmethod
    def from_pem(cls, *pems: bytes) -> Self:
        """The anchors in `pems`. Raises ValueError for text in which a certificate cannot be read."""
        found: dict[bytes, x509.Certificate] = {}
        listed: set[bytes] = set()
        for certificate in (one for pem in pems for one in authorities.load_all(pem)):
            fingerprint = certificate.fingerprint(hashes.SHA256())
            role = authorities.role(certificate)
            if role in {Role.ROOT, Role.INTERMEDIATE}:  # SELF_ISSUED would be a root to OpenSSL
                found[fingerprint] = certificate
            if role in {Role.ROOT, Role.PINNED}:
                # A root may be a server's own certificate: `openssl req -x509` makes them with CA:TRUE.
                listed.add(fingerprint)
        anchors = tuple(crypto.X509.from_cryptography(certificate) for certificate in found.values())
        return cls(tuple(found.values()), frozenset(listed), anchors)

    def store_at(self, now: datetime) -> crypto.X509Store:
        """A store of OpenSSL's that verifies as of `now` (aware).

        A new one each time (0.1 ms for Mozilla's roots): OpenSSL lets the time of a store be set only once,
        and silently keeps the first one for ever.
        """
        store = crypto.X509Store()
        for anchor in self._anchors:
            store.add_cert(anchor)
        store.set_time(now.astimezone(UTC))
        return store
