"""Keys with their certificate chains, no I/O. Results are remembered: parsing costs more than all rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from letterlock_api.conditions import Reason
from letterlock_operator.decide import pems
from letterlock_operator.decide.pems import Refused

__all__ = ["Chain", "Refused", "link", "public_key", "read", "signed"]

type PrivateKey = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Chain:
    """A private key with its certificate and intermediates, in the order in which they are served."""

    key_pem: bytes
    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]

    @cached_property
    def certificates_pem(self) -> bytes:
        """Certificate and intermediates, PEM."""
        return b"".join(one.public_bytes(_PEM) for one in (self.leaf, *self.intermediates))

    @cached_property
    def pem(self) -> bytes:
        """Key, certificate, intermediates."""
        return self.key_pem.strip() + b"\n" + self.certificates_pem

    @cached_property
    def names(self) -> list[str]:
        """The dNSName alternative names, lower case."""
        try:
            found = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [name.lower() for name in found.get_values_for_type(x509.DNSName)]

    @cached_property
    def common_name(self) -> str | None:
        """The subject's common name."""
        found = self.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(found[-1].value) if found else None

    @cached_property
    def fingerprint(self) -> str:
        """sha256, lower-case hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    @cached_property
    def self_signed(self) -> bool:
        """Whether its own key signed it."""
        return self.leaf.subject == self.leaf.issuer and link(self.leaf, self.leaf)

    @cached_property
    def start(self) -> datetime:
        """Start of validity."""
        return self.leaf.not_valid_before_utc

    @cached_property
    def end(self) -> datetime:
        """End of validity."""
        return self.leaf.not_valid_after_utc

    @cached_property
    def key(self) -> tuple[str, int]:
        """Algorithm and size in bits of the key."""
        match self.leaf.public_key():
            case rsa.RSAPublicKey() as key:
                return "RSA", key.key_size
            case ec.EllipticCurvePublicKey() as key:
                return "ECDSA", key.key_size
            case other:
                return type(other).__name__.removesuffix("PublicKey"), 0


@lru_cache(maxsize=8192)
def read(key_pem: bytes, chain_pem: bytes, beside: bytes = b"", *, strict: bool = False) -> Chain:
    """The chain that a key and certificates in any order make. Raises Refused.

    `beside`: more certificates that may complete it (`ca.crt` of cert-manager), used only if they can be read.
    `strict`: an intermediate that does not belong to the chain is an error, and not left out.
    """
    leaf, intermediates = _arranged(_key(key_pem), chain_pem, beside, strict=strict)
    if leaf is None:
        raise Refused(Reason.KEY_MISMATCH, "no certificate in it belongs to the private key")
    return Chain(key_pem, leaf, intermediates)


def signed(request_pem: bytes, chain_pem: bytes) -> Chain:
    """What a CA signed for a request, without the key, which is elsewhere; strict as in `read`. Raises Refused."""
    try:
        asked = x509.load_pem_x509_csr(request_pem)
        key = _public_bytes(asked.public_key())
    except Exception:  # noqa: BLE001 - whatever cryptography raises for bytes of strangers, they are no request
        raise Refused(Reason.INVALID_PEM, "there is no signing request in PEM that can be read") from None
    leaf, intermediates = _arranged(key, chain_pem, b"", strict=True)
    if leaf is None:
        text = "no certificate in it is for the key of the request: have that request signed"
        raise Refused(Reason.KEY_MISMATCH, text)
    return Chain(b"", leaf, intermediates)


def public_key(request_or_key: bytes) -> bytes:
    """The public key of a private key, PEM, as DER: what certificates are matched by. Raises Refused."""
    return _key(request_or_key)


def link(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` signed `certificate`: by name and, where the algorithm is known, by signature."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError):
        return False
    except Exception:  # noqa: BLE001 - an algorithm that cryptography does not verify: the name decides
        return True
    return True


@lru_cache(maxsize=8192)
def _key(pem: bytes) -> bytes:
    try:
        # Not checked for being prime: that takes 30 ms for RSA 2048 and 200 ms for RSA 4096 (measured), and
        # whoever could give us a bad key could read our mail more easily. Members try every pair before use.
        key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise Refused(
            Reason.INVALID_PEM, "the private key is encrypted: give it without passphrase, or as PKCS#12"
        ) from None
    except Exception:  # noqa: BLE001 - whatever cryptography raises for bytes of strangers, they are no key
        raise Refused(Reason.INVALID_PEM, "there is no private key in PEM that can be read") from None
    if not isinstance(
        key,
        rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
    ):
        raise Refused(
            Reason.INVALID_PEM, f"TLS of mail servers has no use for a {type(key).__name__}: use RSA or ECDSA"
        )
    return _public_bytes(key.public_key())


def _arranged(
    key: bytes, chain_pem: bytes, beside: bytes, *, strict: bool
) -> tuple[x509.Certificate | None, tuple[x509.Certificate, ...]]:
    """The certificate of the public key (DER), with its intermediates; None: there is none."""
    found = pems.certificates(chain_pem)
    mine = [one for one in found if _public_bytes(one.public_key()) == key]
    if not mine:
        return None, ()
    leaf = max(mine, key=lambda one: one.not_valid_after_utc)
    extra = _readable(beside)
    intermediates = _ordered(leaf, [*found, *extra])
    if strict:
        _all_linked(leaf, intermediates, found)
    return leaf, intermediates


def _ordered(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The issuers of `leaf` upwards, without the root: peers have that, or do not trust it (RFC 8446 section 4.4.2)."""
    left = [one for one in others if one != leaf]
    chain: list[x509.Certificate] = []
    below = leaf
    while left and below.subject != below.issuer:
        above = max(
            (one for one in left if link(below, one)), key=lambda one: one.not_valid_after_utc, default=None
        )
        if above is None or above.subject == above.issuer:
            break
        chain.append(above)
        left.remove(above)
        below = above
    return tuple(chain)


def _all_linked(
    leaf: x509.Certificate, intermediates: Sequence[x509.Certificate], found: Sequence[x509.Certificate]
) -> None:
    for one in found:
        if one in (leaf, *intermediates) or one.subject == one.issuer:
            continue
        if _public_bytes(one.public_key()) == _public_bytes(leaf.public_key()):
            continue  # an earlier certificate for the same key
        raise Refused(
            Reason.CHAIN_BROKEN,
            f"{one.subject.rfc4514_string() or 'a certificate'} did not sign any certificate of this chain:"
            f" leave it out, or add what links it to {leaf.subject.rfc4514_string()}",
        )


def _readable(text: bytes) -> list[x509.Certificate]:
    if not text:
        return []
    try:
        return pems.certificates(text)
    except Refused:
        return []


def _public_bytes(key: object) -> bytes:
    """SubjectPublicKeyInfo, DER; empty for kinds of keys that TLS has no use for."""
    if not isinstance(
        key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
    ):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
