"""Certificates that are wrong in one way, by name, for receiving hosts of tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.harness.certificates import Authority

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Signer:
    """A certificate with its key, that signs others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @classmethod
    def of(cls, authority: Authority) -> "Signer":
        """The authority itself."""
        key = load_pem_private_key(authority.ca.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(x509.load_pem_x509_certificate(authority.pem), key)


def make(
    issuer: Signer | None,
    *dns_names: str,
    common_name: str = "leaf",
    days: tuple[int, int] = (-10, 10),
    is_ca: bool = False,
    usage: x509.ObjectIdentifier | None = None,
) -> Signer:
    """A certificate from `issuer` (None: signed by itself), valid from and until so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]) if common_name else x509.Name([])
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * _DAY)
        .not_valid_after(now + days[1] * _DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if dns_names:
        names = [x509.DNSName(name) for name in dns_names]
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        built = built.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Signer(built.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def served(leaf: Signer, *chain: Signer) -> bytes:
    """Key and chain, one PEM text: key first."""
    key = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key + b"".join(one.pem for one in (leaf, *chain))


def _with_intermediate(root: Signer, domain: str, *, sent: bool, days: tuple[int, int] = (-10, 10)) -> bytes:
    middle = make(root, common_name="intermediate", is_ca=True, days=days)
    leaf = make(middle, domain)
    return served(leaf, middle) if sent else served(leaf)


# `root` is trusted; `domain` is the recipient domain, three labels.
GOOD: Final[Mapping[str, Callable[[Signer, str], bytes]]] = {
    "its name": lambda root, domain: served(make(root, domain)),
    "its name among others": lambda root, domain: served(make(root, "a.test", "*.b.test", domain)),
    "its name in capitals": lambda root, domain: served(make(root, domain.upper())),
    "an intermediate that is sent": lambda root, domain: _with_intermediate(root, domain, sent=True),
    "a common name only": lambda root, domain: served(make(root, common_name=domain)),
    "a wildcard": lambda root, domain: served(make(root, "*." + domain.partition(".")[2])),
    "a wildcard in a label": lambda root, domain: served(
        make(root, domain[0] + "*." + domain.partition(".")[2])
    ),
}
"""What verifies."""
EXPIRED, EARLY = (-10, -1), (1, 10)
BAD: Final[Mapping[str, Callable[[Signer, str], bytes]]] = {
    "NOT_TRUSTED": lambda root, domain: served(make(root, domain, usage=ExtendedKeyUsageOID.CLIENT_AUTH)),
    "SELF_SIGNED": lambda _, domain: served(make(None, domain, common_name=domain)),
    "ISSUER_MISSING": lambda root, domain: _with_intermediate(root, domain, sent=False),
    "ISSUER_MISSING, unknown CA": lambda _, domain: served(
        make(make(None, common_name="x", is_ca=True), domain)
    ),
    "NOT_TRUSTED, unknown CA that is sent": lambda _, domain: _unknown(domain),
    "EXPIRED": lambda root, domain: served(make(root, domain, days=EXPIRED)),
    "EXPIRED, the intermediate": lambda root, domain: _with_intermediate(
        root, domain, sent=True, days=EXPIRED
    ),
    "NOT_YET_VALID": lambda root, domain: served(make(root, domain, days=EARLY)),
    "NAME_MISMATCH": lambda root, _: served(make(root, "other.test")),
    "NAME_MISMATCH, only the common name": lambda root, domain: served(
        make(root, "other.test", common_name=domain)
    ),
    "NAME_MISMATCH, another common name": lambda root, _: served(make(root, common_name="other.test")),
    "NAME_MISMATCH, no name at all": lambda root, _: served(make(root, common_name="")),
    "NAME_MISMATCH, a wildcard one label short": lambda root, domain: served(make(root, "*." + domain)),
    "NAME_MISMATCH, a wildcard for a whole registry": lambda root, domain: served(
        make(root, "*." + domain.rpartition(".")[2])
    ),
    "NAME_MISMATCH, a bare wildcard": lambda root, _: served(make(root, "*")),
    "NAME_MISMATCH, a wildcard further right": lambda root, domain: served(
        make(root, domain.partition(".")[0] + ".*." + domain.rpartition(".")[2])
    ),
}
"""What does not, each under the name of its event in the outcome table."""


def _unknown(domain: str) -> bytes:
    root = make(None, common_name="unknown", is_ca=True)
    return served(make(root, domain), root)
