"""Keys with their certificate chains, no I/O. Results are remembered: parsing costs more than all rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from letterlock_api import strength
from letterlock_api.conditions import Reason
from letterlock_operator.decide import pems, private_keys
from letterlock_operator.decide.pems import Refused

__all__ = ["Chain", "Refused", "link", "public_key", "read", "signed"]

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

    def ended(self, now: datetime) -> str:
        """The first intermediate that has ended, for people; empty: none has."""
        for one in self.intermediates:
            if one.not_valid_after_utc <= now:
                return f"its intermediate {one.subject.rfc4514_string()} ends on {one.not_valid_after_utc:%Y-%m-%d}"
        return ""

    @cached_property
    def weakness(self) -> str:
        """What in it can be broken or forged, for people; empty: nothing. Members serve it all the same."""
        for one in (self.leaf, *self.intermediates):
            said = strength.weakness(one)
            if said:
                whose = "" if one == self.leaf else f"its intermediate {one.subject.rfc4514_string()}: "
                return whose + said
        return ""

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
    key = private_keys.alone(key_pem)
    leaf, intermediates = _arranged(private_keys.public_part(key), chain_pem, beside, strict=strict)
    if leaf is None:
        raise Refused(Reason.KEY_MISMATCH, "no certificate in it belongs to the private key")
    return Chain(key, leaf, intermediates)


def signed(request_pem: bytes, chain_pem: bytes) -> Chain:
    """What a CA signed for a request, without the key, which is elsewhere; strict as in `read`. Raises Refused."""
    try:
        asked = x509.load_pem_x509_csr(request_pem)
        key = private_keys.der(asked.public_key())
    except Exception:  # noqa: BLE001 - whatever cryptography raises for bytes of strangers, they are no request
        raise Refused(Reason.INVALID_PEM, "there is no signing request in PEM that can be read") from None
    leaf, intermediates = _arranged(key, chain_pem, b"", strict=True)
    if leaf is None:
        text = "no certificate in it is for the key of the request: have that request signed"
        raise Refused(Reason.KEY_MISMATCH, text)
    return Chain(b"", leaf, intermediates)


def public_key(pem: bytes) -> bytes:
    """The public key of a private key, PEM, as DER: what certificates are matched by. Raises Refused."""
    return private_keys.public_part(private_keys.alone(pem))


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


def _arranged(
    key: bytes, chain_pem: bytes, beside: bytes, *, strict: bool
) -> tuple[x509.Certificate | None, tuple[x509.Certificate, ...]]:
    """The certificate of the public key (DER), with its intermediates; None: there is none."""
    found = pems.certificates(chain_pem)
    mine = [one for one in found if private_keys.der(one.public_key()) == key]
    if not mine:
        return None, ()
    leaf = max(mine, key=lambda one: one.not_valid_after_utc)
    extra = _readable(beside)
    intermediates = _ordered(leaf, [*found, *extra])
    if strict:
        _all_linked(leaf, found)
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


def _all_linked(leaf: x509.Certificate, found: Sequence[x509.Certificate]) -> None:
    """Raise Refused for a certificate that stands above the leaf on no way: a CA may be signed by several others."""
    linked, waiting = {leaf}, [leaf]
    while waiting:
        below = waiting.pop()
        above = [one for one in found if one not in linked and link(below, one)]
        linked.update(above)
        waiting += above
    for one in found:
        if one in linked or one.subject == one.issuer:
            continue
        if private_keys.der(one.public_key()) == private_keys.der(leaf.public_key()):
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
