"""Certificates as pages show them, read from PEM. Names are those of strangers: templates make them plain."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from letterlock_api import authorities
from letterlock_api.authorities import Role
from letterlock_gateway.tls import names

_SOON_DAYS = 30


@dataclass(frozen=True)
class Shown:
    """One certificate."""

    subject: str
    common_name: str
    issuer: str
    serial: str
    names: Sequence[str]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    key: str
    role: Role
    pem: bytes

    def days(self, now: float) -> int:
        """Days until it ends; negative: since it ended."""
        return (self.not_after - datetime.fromtimestamp(now, UTC)).days

    def level(self, now: float) -> str:
        """How urgent its end is: the class of a badge."""
        days = self.days(now)
        return "bad" if self.not_after.timestamp() <= now else "warn" if days < _SOON_DAYS else "good"

    @property
    def self_signed(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.subject == self.issuer


def read(pem: bytes) -> list[Shown]:
    """All certificates in `pem`, in their order; none where one of them cannot be read."""
    try:
        return [_shown(one) for one in authorities.load_all(pem)]
    except authorities.PARSE_ERRORS:
        return []


def _shown(one: x509.Certificate) -> Shown:
    common = one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Shown(
        subject=one.subject.rfc4514_string() or "(no subject)",
        common_name=str(common[0].value) if common else "",
        issuer=one.issuer.rfc4514_string() or "(no name)",
        serial=f"{one.serial_number:x}",
        names=names.presented_names(one).names,
        not_before=one.not_valid_before_utc,
        not_after=one.not_valid_after_utc,
        fingerprint=one.fingerprint(hashes.SHA256()).hex(),
        key=_key(one),
        role=authorities.role(one),
        pem=one.public_bytes(Encoding.PEM),
    )


def _key(one: x509.Certificate) -> str:
    try:
        key = one.public_key()
    except authorities.PARSE_ERRORS:
        return "a kind that is not known here"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return type(key).__name__.lstrip("_").removesuffix("PublicKey")
