"""A CA for tests of decisions: a root, an intermediate that signs requests, and what people get wrong with them."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.decide.builders import NOW


@dataclass(frozen=True)
class Authority:
    """A certificate that may sign others, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, request: str, *, start: datetime = NOW, days: float = 90) -> str:
        """The certificate for a request, PEM: subject and names as asked."""
        asked = x509.load_pem_x509_csr(request.encode())
        builder = _builder(asked.subject, self.certificate.subject, asked.public_key(), start, days)
        for extension in asked.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        return _pem(builder.sign(self.key, hashes.SHA256()))

    def authority(
        self, name: str, *, start: datetime = NOW - timedelta(days=1), days: float = 3650
    ) -> "Authority":
        """An intermediate below this one."""
        return _authority(name, self, start, days)

    def signed_by(self, above: "Authority", *, start: datetime = NOW, days: float = 3000) -> "Authority":
        """The same CA, signed by another one too."""
        return replace(self, certificate=_ca(self.certificate.subject, self.key, above, start, days))


@cache
def root() -> Authority:
    return _authority("Root", None)


def other_root(name: str) -> Authority:
    return _authority(name, None)


@cache
def intermediate() -> Authority:
    return root().authority("Intermediate")


def _authority(
    name: str, above: Authority | None, start: datetime = NOW - timedelta(days=1), days: float = 3650
) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return Authority(_ca(subject, key, above, start, days), key)


def _ca(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, above: Authority | None, start: datetime, days: float
) -> x509.Certificate:
    issuer = above.certificate.subject if above else subject
    builder = _builder(subject, issuer, key.public_key(), start, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(above.key if above else key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: object, start: datetime, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)  # pyright: ignore[reportArgumentType] - whatever kind of key was asked for
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
