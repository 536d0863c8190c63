"""Certificates made to order: any mixture of extensions, dates and keys, and signatures that fit or do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
type Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def text(self) -> str:
        return self.pem.decode()

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @classmethod
    def make(
        cls,
        name: str,
        issuer: Self | None = None,
        *,
        ca: bool | None = None,
        days: tuple[int, int] = (-10, 10),
        names: Sequence[str] = (),
        usages: Sequence[ObjectIdentifier] = (),
        key: Key | None = None,
        signs: bool | None = None,
        excluded: Sequence[str] = (),
        more: Sequence[x509.ExtensionType] = (),
        now: datetime = NOW,
    ) -> Self:
        """Without `issuer`: self-signed. `ca` None: no basic constraints; `signs` None: no key usage.

        `days`: validity, relative to `now`. `excluded`: DNS name constraints. No key identifiers at all.
        """
        own = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
            builder = builder.add_extension(alternative, critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if signs is not None:
            builder = builder.add_extension(_key_usage(signs=signs), critical=True)
        if excluded:
            denied = x509.NameConstraints(None, [x509.DNSName(one) for one in excluded])
            builder = builder.add_extension(denied, critical=True)
        for one in more:
            builder = builder.add_extension(one, critical=False)
        signer = issuer.key if issuer else own
        plain = isinstance(signer, ed25519.Ed25519PrivateKey)
        return cls(builder.sign(signer, None if plain else hashes.SHA256()), own)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
