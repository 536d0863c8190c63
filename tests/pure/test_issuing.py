"""Keys and certificates that are made here, as strict verifiers and openssl see them."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from letterlock_api.state import (
    INTERNAL_CA_FILE,
    INTERNAL_CERTIFICATE_FILE,
    INTERNAL_CLIENT_NAME,
    INTERNAL_SERVER_NAME,
)
from letterlock_operator import issuing
from letterlock_operator.plan import Issue
from letterlock_operator.world import Keep

NOW = datetime(2026, 3, 1, 12, 30, 15, 999, tzinfo=UTC)


def order(
    *,
    subject: dict[str, str] | None = None,
    dns_names: tuple[str, ...] = ("mx.example.com",),
    algorithm: Literal["RSA", "ECDSA"] = "ECDSA",
    size: int = 256,
    keep_key: bool = False,
) -> Issue:
    return Issue(
        secret="letterlock-cert-mx",
        owner="Certificate/mx",
        subject={"common_name": "mx.example.com"} if subject is None else subject,
        dns_names=dns_names,
        days=30,
        algorithm=algorithm,
        size=size,
        keep_key=keep_key,
        inputs="of-this",
    )


def certificate(data: dict[str, bytes]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(data[issuing.CERTIFICATE])


def names(made: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    return made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


@pytest.mark.parametrize(
    ("algorithm", "size"),
    [("RSA", 1024), ("RSA", 2048), ("RSA", 3072), ("RSA", 4096), ("ECDSA", 256), ("ECDSA", 384)],
)
def test_every_size_gives_a_key_that_openssl_takes_with_its_certificate(
    tmp_path: Path, algorithm: Literal["RSA", "ECDSA"], size: int
) -> None:
    data = issuing.issue(order(algorithm=algorithm, size=size), None, NOW)
    key = serialization.load_pem_private_key(data[issuing.KEY], None)
    assert isinstance(key, rsa.RSAPrivateKey if algorithm == "RSA" else ec.EllipticCurvePrivateKey)
    assert key.key_size == size
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    verify = ("verify", "-x509_strict", "-CAfile", "tls.crt", "-purpose", "sslserver")
    strict = "1" if size == 1024 else "2"
    check = subprocess.run(
        ("openssl", *verify, "-auth_level", strict, "-attime", str(int(NOW.timestamp()) + 60), "tls.crt"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # 1024 bits are below level 2; level 1 asks for 1024.
    assert check.returncode == 0, check.stdout + check.stderr
    request = subprocess.run(
        ("openssl", "req", "-in", "tls.csr", "-noout", "-verify"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert request.returncode == 0, request.stderr


def test_the_validity_is_exact_to_the_second() -> None:
    made = certificate(issuing.issue(order(), None, NOW))
    assert made.not_valid_before_utc == NOW.replace(microsecond=0)
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=30)


def test_the_common_name_is_a_subject_alternative_name_too_and_each_name_is_there_once() -> None:
    data = issuing.issue(order(dns_names=("a.example.com", "MX.example.com")), None, NOW)
    request = x509.load_pem_x509_csr(data[issuing.REQUEST])
    assert names(certificate(data)) == ["a.example.com", "mx.example.com"]
    assert names(request) == names(certificate(data))
    assert request.public_key() == certificate(data).public_key()


def test_names_in_other_scripts_become_a_labels() -> None:
    made = certificate(issuing.issue(order(subject={}, dns_names=("*.bücher.example",)), None, NOW))
    assert names(made) == ["*.xn--bcher-kva.example"]


def test_the_whole_subject_is_in_the_certificate() -> None:
    subject = {
        "common_name": "mx.example.com",
        "organization": "Example Ltd",
        "organizational_unit": "Mail",
        "locality": "Köln",
        "state": "NRW",
        "country": "DE",
    }
    made = certificate(issuing.issue(order(subject=subject), None, NOW))
    assert made.subject.rfc4514_string() == "CN=mx.example.com,OU=Mail,O=Example Ltd,L=Köln,ST=NRW,C=DE"
    assert made.issuer == made.subject


def test_a_renewal_keeps_the_key_where_the_order_says_so() -> None:
    first = issuing.issue(order(), None, NOW)
    present = Keep("letterlock-cert-mx", first)
    later = NOW + timedelta(days=20)
    renewed = issuing.issue(order(keep_key=True), present, later)
    fresh = issuing.issue(order(), present, later)
    assert renewed[issuing.KEY] == first[issuing.KEY] != fresh[issuing.KEY]
    assert certificate(renewed).serial_number != certificate(first).serial_number
    assert renewed[issuing.INPUTS] == b"of-this"


def test_without_any_name_there_is_no_certificate() -> None:
    with pytest.raises(ValueError, match="needs a common name"):
        issuing.issue(order(subject={}, dns_names=()), None, NOW)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (INTERNAL_CERTIFICATE_FILE, INTERNAL_SERVER_NAME),
        (issuing.OPERATOR_IDENTITY, INTERNAL_CLIENT_NAME),
    ],
)
def test_the_internal_identities_pass_a_strict_verifier(file: str, name: str) -> None:
    data = issuing.issue_internal("default", NOW)
    ca = x509.load_pem_x509_certificate(data[INTERNAL_CA_FILE])
    leaf = x509.load_pem_x509_certificate(data[file])
    builder = PolicyBuilder().store(Store([ca])).time(NOW + timedelta(minutes=1))
    assert builder.build_server_verifier(x509.DNSName(name)).verify(leaf, []) == [leaf, ca]
    assert builder.build_client_verifier().verify(leaf, []).subjects == [x509.DNSName(name)]
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == name
    serialization.load_pem_private_key(data[file].partition(b"-----BEGIN CERTIFICATE")[0], None)
