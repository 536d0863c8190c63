"""Chains: what is trusted, as OpenSSL does it, and what is said of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from letterlock_gateway.tls import verify
from letterlock_gateway.tls.trust import TrustStore

NOW = datetime(2026, 6, 1, tzinfo=UTC)
type Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


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
    ) -> Self:
        """Without `issuer`: self-signed. `ca` None: no basic constraints. No AKI, SKI or key usage at all."""
        own = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=days[0]))
            .not_valid_after(NOW + timedelta(days=days[1]))
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
            builder = builder.add_extension(alternative, critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        signer = issuer.key if issuer else own
        algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return cls(builder.sign(signer, algorithm), own)


def judged(trusted: Sequence[Issued], *chain: Issued, now: datetime = NOW) -> str:
    """`Trusted`, or the reason."""
    trust = TrustStore.from_pem(*(one.pem for one in trusted))
    verdict = verify.verify_chain([one.der for one in chain], trust, now)
    assert verdict.trusted == (verdict.reason is None)
    assert verdict.detail
    return verdict.reason or "Trusted"


@pytest.fixture(scope="module")
def root() -> Issued:
    return Issued.make("root", ca=True, days=(-1000, 1000))


def test_private_pki_without_san_aki_and_key_usage_is_trusted(root: Issued) -> None:
    assert judged([root], Issued.make("mail.example", root)) == "Trusted"


def test_an_ed25519_root_is_trusted() -> None:
    made = Issued.make("root", ca=True, key=ed25519.Ed25519PrivateKey.generate())
    assert judged([made], Issued.make("mail.example", made)) == "Trusted"


@pytest.mark.parametrize("ca", [True, False, None], ids=["CA:TRUE", "CA:FALSE", "no basic constraints"])
def test_a_self_signed_leaf_is_trusted_for_itself_where_it_is_listed(ca: bool | None) -> None:
    leaf = Issued.make("mail.example", ca=ca)
    assert judged([leaf], leaf) == "Trusted"
    assert judged([], leaf) == "NotTrusted"
    assert judged([leaf], Issued.make("mail.example", ca=ca)) == "NotTrusted"


def test_a_pinned_end_entity_vouches_for_nobody_else() -> None:
    leaf = Issued.make("mail.example", ca=False)
    assert judged([leaf], Issued.make("other.example", leaf), leaf) == "NotTrusted"


def test_presented_intermediates_are_used_and_missing_ones_missed(root: Issued) -> None:
    between = Issued.make("between", root, ca=True)
    leaf = Issued.make("mail.example", between)
    assert judged([root], leaf, between) == "Trusted"
    assert judged([root], leaf, between, root) == "Trusted"
    assert judged([root], leaf) == "NotTrusted"


def test_intermediates_that_are_no_ca_make_no_chain(root: Issued) -> None:
    between = Issued.make("between", root, ca=False)
    assert judged([root], Issued.make("mail.example", between), between) == "NotTrusted"


def test_a_presented_root_is_not_trusted_for_being_presented(root: Issued) -> None:
    other = Issued.make("other root", ca=True)
    assert judged([root], Issued.make("mail.example", other), other) == "NotTrusted"


def test_a_root_of_the_same_name_is_another_root(root: Issued) -> None:
    twin = Issued.make("root", ca=True)
    assert judged([root], Issued.make("mail.example", twin), twin) == "NotTrusted"


@pytest.mark.parametrize("days", [(-10, -1), (1, 10)], ids=["expired", "not yet valid"])
def test_dates_are_checked_in_the_whole_chain(root: Issued, days: tuple[int, int]) -> None:
    assert judged([root], Issued.make("mail.example", root, days=days)) == "Expired"
    between = Issued.make("between", root, ca=True, days=days)
    assert judged([root], Issued.make("mail.example", between), between) == "Expired"
    old_root = Issued.make("old", ca=True, days=days)
    assert judged([old_root], Issued.make("mail.example", old_root)) == "Expired"
    pinned = Issued.make("mail.example", ca=False, days=days)
    assert judged([pinned], pinned) == "Expired"


def test_one_store_verifies_at_many_times(root: Issued) -> None:
    """OpenSSL keeps the first time of a store for ever: a member that runs for months must not."""
    trust = TrustStore.from_pem(root.pem)
    leaf = Issued.make("mail.example", root)
    for days, trusted in [(0, True), (20, False), (0, True), (-20, False), (5, True)]:
        verdict = verify.verify_chain([leaf.der], trust, NOW + timedelta(days=days))
        assert verdict.trusted == trusted


def test_of_two_roots_with_one_name_and_key_the_valid_one_counts() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    expired = Issued.make("root", ca=True, days=(-100, -1), key=key)
    renewed = Issued.make("root", ca=True, days=(-1, 100), key=key)
    leaf = Issued.make("mail.example", renewed)
    assert judged([expired, renewed], leaf) == "Trusted"
    assert judged([renewed, expired], leaf) == "Trusted"


def test_a_certificate_for_clients_only_is_none_for_servers(root: Issued) -> None:
    client = [ExtendedKeyUsageOID.CLIENT_AUTH]
    server = [*client, ExtendedKeyUsageOID.SERVER_AUTH]
    assert judged([root], Issued.make("mail.example", root, usages=client)) == "NotTrusted"
    assert judged([root], Issued.make("mail.example", root, usages=server)) == "Trusted"


def test_nothing_presented_and_nonsense_are_not_trusted(root: Issued) -> None:
    trust = TrustStore.from_pem(root.pem)
    assert verify.verify_chain([], trust, NOW).reason == "NotTrusted"
    assert verify.verify_chain([b"nonsense"], trust, NOW).reason == "NotTrusted"
    assert verify.verify_chain([Issued.make("x", root).der, b"nonsense"], trust, NOW).reason == "NotTrusted"


def test_an_empty_store_trusts_nobody(root: Issued) -> None:
    assert judged([], Issued.make("mail.example", root), root) == "NotTrusted"


def test_the_system_list_can_be_read_and_verifies_quickly(root: Issued) -> None:
    with open(certifi.where(), "rb") as file:  # noqa: PTH123
        trust = TrustStore.from_pem(file.read(), root.pem)
    assert len(trust.authorities) > 100
    assert verify.verify_chain([Issued.make("mail.example", root).der], trust, NOW).trusted
