"""testssl.sh and sslyze find nothing at a listener that offers TLS, as it comes, with a certificate of a test CA."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.harness import ports, scanners
from tests.harness.issued import Issued, Key
from tests.harness.member import Member
from tests.harness.relay import LISTENER_NAME, Relay

# What testssl may find beyond LOW: a test CA has no revocation lists, no transparency logs and no CAA records.
ALLOWED: Final = {"cert_revocation", "cert_ocspURL", "certificate_transparency", "DNS_CAArecord"}
# WARN: its own check of resumption by session id does not work behind STARTTLS, and it misses an engine for GOST.
UNMADE: Final = {"sessionresumption_ID", "sessionresumption_ticket", "engine_problem"}
# Mozilla's "intermediate", version 5.7. Beyond it: the suites with CBC and SHA-2, without which Windows Server 2012
# would send its mail in clear, and two strong curves that OpenSSL has by default.
PROFILE: Final[dict[str, Any]] = {
    "certificate_curves": ["prime256v1", "secp384r1"],
    "certificate_signatures": ["sha256WithRSAEncryption", "ecdsa-with-SHA256"],
    "certificate_types": ["ecdsa", "rsa"],
    "ciphersuites": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"],
    "ciphers": {
        "caddy": [],
        "go": [],
        "openssl": [],
        "iana": [
            f"TLS_ECDHE_{key}_WITH_{suite}"
            for key in ("RSA", "ECDSA")
            for suite in (
                "AES_128_GCM_SHA256",
                "AES_256_GCM_SHA384",
                "CHACHA20_POLY1305_SHA256",
                "AES_128_CBC_SHA256",
                "AES_256_CBC_SHA384",
            )
        ],
    },
    "dh_param_size": 2048,
    "ecdh_param_size": 256,
    "hsts_min_age": 0,
    "maximum_certificate_lifespan": 366,
    "ocsp_staple": False,
    "recommended_certificate_lifespan": 90,
    "rsa_key_size": 2048,
    "server_preferred_order": True,
    "tls_curves": ["X25519", "prime256v1", "secp384r1", "secp521r1", "X448"],
    "tls_versions": ["TLSv1.2", "TLSv1.3"],
}


def made(name: str, key: Key, issuer: Issued | None = None) -> Issued:
    """As a public CA would make it: 90 days, key identifiers, key usages."""
    signer = issuer.key if issuer else key
    identifiers: list[x509.ExtensionType] = [x509.SubjectKeyIdentifier.from_public_key(key.public_key())]
    if issuer is not None:
        identifiers.append(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()))
    return Issued.make(
        name,
        issuer,
        ca=issuer is None,
        signs=issuer is None,
        days=(-1, 89),
        names=[] if issuer is None else [name],
        usages=[] if issuer is None else [ExtendedKeyUsageOID.SERVER_AUTH],
        key=key,
        more=identifiers,
        now=datetime.now(UTC),
    )


AUTHORITY: Final = made("Letterlock test CA", ec.generate_private_key(ec.SECP256R1()))


@dataclass(frozen=True)
class Offered:
    """A listener that offers TLS."""

    port: int
    testssl: scanners.Testssl | None = None


def offering(directory: Path, key: Key) -> tuple[Member, Relay]:
    directory.mkdir()
    leaf = made(LISTENER_NAME, key, AUTHORITY)
    member = Member(directory, workers=1)
    return member, Relay(member, ports.free_port(), leaf.key_pem + leaf.pem, [], reception="Preferred")


@pytest.fixture(scope="module")
def with_rsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offered]:
    """The key that Certificates have by default; testssl begins at once and goes on behind the other tests."""
    directory = tmp_path_factory.mktemp("scanned")
    member, relay = offering(
        directory / "rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    expected = relay.publish()
    with member:
        member.wait_ready()
        member.wait_running(expected)
        testssl = scanners.Testssl(directory, LISTENER_NAME, relay.port, AUTHORITY.pem)
        try:
            yield Offered(relay.port, testssl)
        finally:
            testssl.stop()


@pytest.fixture
def with_ecdsa(tmp_path: Path) -> Iterator[Offered]:
    member, relay = offering(tmp_path / "ecdsa", ec.generate_private_key(ec.SECP256R1()))
    expected = relay.publish()
    with member:
        member.wait_ready()
        member.wait_running(expected)
        yield Offered(relay.port)


def test_sslyze_finds_nothing_with_rsa(with_rsa: Offered, tmp_path: Path) -> None:
    status, words = scanners.sslyze(
        tmp_path, LISTENER_NAME, with_rsa.port, AUTHORITY.pem, PROFILE, "sslyze-rsa.json"
    )
    assert (status, "Not compliant" in words) == (0, False), words
    assert "Compliant" in words
    assert "Client Renegotiation DoS Attack:   OK - Not vulnerable" in words


def test_sslyze_finds_nothing_with_ecdsa(with_ecdsa: Offered, tmp_path: Path) -> None:
    status, words = scanners.sslyze(
        tmp_path, LISTENER_NAME, with_ecdsa.port, AUTHORITY.pem, PROFILE, "sslyze-ecdsa.json"
    )
    assert (status, "Not compliant" in words) == (0, False), words


def test_testssl_finds_nothing_above_low(with_rsa: Offered) -> None:
    assert with_rsa.testssl is not None
    findings = with_rsa.testssl.findings()
    # It has looked, and at the right thing.
    by_id = {one.id: one for one in findings}
    for check in (
        "heartbleed",
        "ROBOT",
        "secure_client_renego",
        "LOGJAM",
        "BEAST",
        "cipher_order",
        "fallback_SCSV",
    ):
        assert check in by_id, sorted(by_id)
    assert "passed" in by_id["cert_chain_of_trust"].text
    bad = [one for one in findings if one.above("LOW") and one.id not in ALLOWED]
    assert bad == []
    assert {one.id for one in findings if one.severity == "WARN"} <= UNMADE
