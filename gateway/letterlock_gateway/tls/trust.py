"""What peers are verified against: CA certificates, and self-signed ones that are trusted for themselves."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.utils import CryptographyDeprecationWarning
from OpenSSL import crypto


@dataclass(frozen=True)
class TrustStore:
    """Trust anchors, ready for OpenSSL."""

    authorities: tuple[x509.Certificate, ...]
    pinned: frozenset[bytes]
    """sha256 fingerprints of end-entity certificates that are trusted for themselves only."""
    _anchors: tuple[crypto.X509, ...] = field(compare=False, repr=False)

    @classmethod
    def from_pem(cls, *pems: bytes) -> Self:
        """The anchors in `pems`. Raises ValueError for text in which a certificate cannot be read."""
        authorities: dict[bytes, x509.Certificate] = {}
        pinned: set[bytes] = set()
        for certificate in _certificates(pems):
            fingerprint = certificate.fingerprint(hashes.SHA256())
            if is_authority(certificate):
                authorities[fingerprint] = certificate
            if _is_self_issued(certificate):
                # `openssl req -x509` makes leaves with CA:TRUE; as an anchor such a one is in both roles.
                pinned.add(fingerprint)
        anchors = tuple(crypto.X509.from_cryptography(certificate) for certificate in authorities.values())
        return cls(tuple(authorities.values()), frozenset(pinned), anchors)

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


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether `certificate` may sign others: RFC 5280 basic constraints, or a self-signed version 1 root."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.version == x509.Version.v1 and _is_self_issued(certificate)


def _is_self_issued(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _certificates(pems: tuple[bytes, ...]) -> Iterator[x509.Certificate]:
    for pem in pems:
        if pem.strip():
            with warnings.catch_warnings():
                # Some of Mozilla's roots have a serial number of 0; whoever trusts them needs no warning each time.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                yield from x509.load_pem_x509_certificates(pem)
