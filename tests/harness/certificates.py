"""Certificates for tests: a few CAs and certificates of theirs, made with trustme."""

from dataclasses import dataclass, field

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def _new_ca() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own."""

    ca: trustme.CA = field(default_factory=_new_ca)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.ca.cert_pem.bytes()

    def issue(
        self, *names: str, common_name: str | None = None, key_type: trustme.KeyType = trustme.KeyType.ECDSA
    ) -> bytes:
        """A key (P-256, or RSA 2048) with a certificate for `names` and its chain, one PEM text: key first."""
        made = self.ca.issue_cert(*names, common_name=common_name, key_type=key_type)
        return made.private_key_and_cert_chain_pem.bytes()


def leaf_of(pem: bytes) -> x509.Certificate:
    """The first certificate in `pem`."""
    return x509.load_pem_x509_certificates(pem)[0]


def leaf_der(pem: bytes) -> bytes:
    """The first certificate in `pem`, as it goes over the wire."""
    return leaf_of(pem).public_bytes(Encoding.DER)
