"""Reads keys and certificate chains, no I/O. Results are remembered: parsing costs more than all rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from letterlock_api.conditions import Reason


class Refused(Exception):  # noqa: N818 - it is the user's input that is wrong
    """A key or chain that cannot be used."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Chain:
    """A private key with its certificate and intermediates, in the order in which they are served."""

    pem: bytes
    """Key, certificate, intermediates."""
    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]

    @property
    def names(self) -> list[str]:
        """The dNSName alternative names, lower case."""
        try:
            found = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [name.lower() for name in found.get_values_for_type(x509.DNSName)]

    @property
    def common_name(self) -> str | None:
        """The subject's common name."""
        found = self.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(found[-1].value) if found else None

    @property
    def fingerprint(self) -> str:
        """sha256, lower-case hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    @property
    def self_signed(self) -> bool:
        """Whether subject and issuer are one."""
        return self.leaf.subject == self.leaf.issuer

    @property
    def key(self) -> tuple[str, int]:
        """Algorithm and size in bits of the key."""
        match self.leaf.public_key():
            case rsa.RSAPublicKey() as key:
                return "RSA", key.key_size
            case ec.EllipticCurvePublicKey() as key:
                return "ECDSA", key.key_size
            case other:
                return type(other).__name__.removesuffix("PublicKey"), 0


@lru_cache(maxsize=4096)
def read(key_pem: bytes, chain_pem: bytes) -> Chain:
    """The chain that `key_pem` and `chain_pem` (certificate and intermediates in any order) make. Raises Refused."""
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError):
        raise Refused(Reason.INVALID_PEM, "tls.key is no unencrypted PEM private key") from None
    try:
        certificates = x509.load_pem_x509_certificates(chain_pem)
    except ValueError:
        raise Refused(Reason.INVALID_PEM, "tls.crt is not a PEM certificate chain") from None
    public = _public_bytes(key.public_key())
    leaf = next((one for one in certificates if _public_bytes(one.public_key()) == public), None)
    if leaf is None:
        raise Refused(Reason.KEY_MISMATCH, "no certificate in tls.crt belongs to the key in tls.key")
    intermediates = _ordered(leaf, certificates)
    encoding = serialization.Encoding.PEM
    pem = key_pem.strip() + b"\n" + b"".join(one.public_bytes(encoding) for one in (leaf, *intermediates))
    return Chain(pem, leaf, intermediates)


def _ordered(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The issuers of `leaf` upwards, without the root: peers have that, or do not trust it (RFC 8446 section 4.4.2)."""
    left = [one for one in others if one != leaf]
    chain: list[x509.Certificate] = []
    issuer = leaf.issuer
    while left:
        above = next((one for one in left if one.subject == issuer), None)
        if above is None or above.subject == above.issuer:
            break
        chain.append(above)
        left.remove(above)
        issuer = above.issuer
    return tuple(chain)


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
