"""Contexts: what is refused before it is used, and what a handshake then comes to."""

import ssl
import subprocess
from pathlib import Path

import pytest

from letterlock_gateway.tls import contexts
from letterlock_gateway.tls.contexts import BadCertificate
from tests.harness.certificates import Authority, leaf_der


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "a.example"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after the handshake, without a network. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done = [False, False]
    for _ in range(10):
        for n, end in enumerate(ends):
            if not done[n]:
                try:
                    end.do_handshake()
                    done[n] = True
                except ssl.SSLWantReadError:
                    pass
        if all(done):
            return ends
    raise AssertionError("no end of the handshake")


def server(pem: bytes, **changes: object) -> ssl.SSLContext:
    fields: dict[str, object] = {
        "min_version": "TLSv1.2",
        "ciphers": None,
        "client_certificates": "None",
        "client_ca": b"",
    }
    return contexts.server_context(pem, **(fields | changes))  # pyright: ignore[reportArgumentType]


def client(**changes: object) -> ssl.SSLContext:
    fields: dict[str, object] = {"min_version": "TLSv1.2", "ciphers": None, "certificate": None}
    return contexts.client_context(**(fields | changes))  # pyright: ignore[reportArgumentType]


def presented(session: ssl.SSLObject) -> list[bytes]:
    return session.get_unverified_chain()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def test_a_client_takes_any_certificate_and_gets_the_chain(authority: Authority) -> None:
    pem = authority.issue("a.example")
    ours, _ = handshake(server(pem), client())
    assert ours.version() == "TLSv1.3"
    assert presented(ours)[0] == leaf_der(pem)


@pytest.mark.parametrize("what", ["mismatch", "no key", "no certificate", "nonsense", "empty"])
def test_a_pair_that_does_not_work_is_refused(authority: Authority, what: str) -> None:
    one, other = authority.issue("a.example"), authority.issue("b.example")
    marker = b"-----BEGIN CERTIFICATE-----"
    key, other_certificate = one[: one.index(marker)], other[other.index(marker) :]
    broken = {
        "mismatch": key + other_certificate,
        "no key": other_certificate,
        "no certificate": key,
        "nonsense": b"nonsense",
        "empty": b"",
    }[what]
    with pytest.raises(BadCertificate) as refusal:
        server(broken)
    assert str(refusal.value)
    with pytest.raises(BadCertificate):
        client(certificate=broken)


def test_a_cipher_list_without_any_cipher_is_refused(authority: Authority) -> None:
    with pytest.raises(BadCertificate, match="NOSUCH"):
        server(authority.issue("a.example"), ciphers="NOSUCH")


def test_the_minimum_version_holds(authority: Authority) -> None:
    pem = authority.issue("a.example")
    old = client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(server(pem, min_version="TLSv1.3"), old)
    assert handshake(server(pem), old)[0].version() == "TLSv1.2"


def test_an_rsa_key_of_1024_bits_works(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=a.example"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    pem = key.read_bytes() + certificate.read_bytes()
    lenient = client(min_version="TLSv1")  # what Preferred and Required begin with
    assert handshake(server(pem), lenient)[0].version() == "TLSv1.3"


def test_sni_chooses_the_certificate(authority: Authority) -> None:
    first, second = server(authority.issue("a.example")), server(authority.issue("*.b.example"))
    both = contexts.with_sni(first, {"a.example": first, "*.b.example": second})
    chains = [presented(handshake(both, client(), name)[0])[0] for name in ("a.example", "mx.B.example", "c")]
    assert chains[0] == chains[2] != chains[1]


@pytest.mark.parametrize("asked", ["Optional", "Required"])
def test_client_certificates_are_verified(authority: Authority, asked: str) -> None:
    listener = server(authority.issue("a.example"), client_certificates=asked, client_ca=authority.pem)
    good = client(certificate=authority.issue("client.example"))
    assert handshake(listener, good)[1].getpeercert()
    stranger = client(certificate=Authority().issue("client.example"))
    with pytest.raises(ssl.SSLError):
        handshake(listener, stranger)
    if asked == "Required":
        with pytest.raises(ssl.SSLError):
            handshake(listener, client())
    else:
        handshake(listener, client())
