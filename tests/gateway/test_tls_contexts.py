"""Contexts: what is refused before it is used, and what a handshake then comes to."""

import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from letterlock_gateway.tls import contexts
from letterlock_gateway.tls.contexts import BadCertificate
from letterlock_operator.decide import chains
from letterlock_operator.decide.pems import Refused
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


P256: Final = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
# What OpenSSL refuses to load at its default security level.
WEAK: Final = {
    "RSA 1024": (("rsa:1024",), "-sha256", P256, "RSA 1024 can be broken"),
    "signed with SHA-1": (P256, "-sha1", P256, "SHA1, which can be forged"),
    "signed with MD5": (P256, "-md5", ("rsa:2048",), "MD5, which can be forged"),
    "below a CA of 1024 bits": (P256, "-sha256", ("rsa:1024",), "its intermediate CN=Below: RSA 1024"),
}


def signed_by_openssl(
    folder: Path, key: Sequence[str], digest: str = "-sha256", above: Sequence[str] = P256
) -> tuple[bytes, bytes]:
    """A key of this kind, and its certificate with an intermediate whose key is of the kind `above`, PEM."""

    def openssl(words: str, *arguments: str) -> None:
        subprocess.run(["openssl", *words.split(), *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "ca.cnf").write_text("basicConstraints=critical,CA:TRUE\n")
    openssl("req -x509 -nodes -keyout root.key -out root.pem -subj /CN=Root -newkey", *P256)
    openssl("req -nodes -keyout below.key -out below.csr -subj /CN=Below -newkey", *above)
    openssl("x509 -req -in below.csr -CA root.pem -CAkey root.key -extfile ca.cnf -out below.pem")
    openssl("req -nodes -keyout leaf.key -out leaf.csr -subj /CN=a.example -newkey", *key)
    openssl("x509 -req -in leaf.csr -CA below.pem -CAkey below.key -out leaf.pem", digest)
    read = {file: (folder / file).read_bytes() for file in ("leaf.key", "leaf.pem", "below.pem")}
    return read["leaf.key"], read["leaf.pem"] + read["below.pem"]


@pytest.mark.parametrize(("key", "digest", "above", "says"), WEAK.values(), ids=WEAK.keys())
def test_a_weak_pair_is_taken_said_to_be_weak_and_served(
    tmp_path: Path, key: Sequence[str], digest: str, above: Sequence[str], says: str
) -> None:
    taken = chains.read(*signed_by_openssl(tmp_path, key, digest, above))
    assert says in taken.weakness
    assert len(taken.intermediates) == 1
    lenient = client(min_version="TLSv1")  # what Preferred and Required begin with
    ends = handshake(server(taken.pem), lenient)
    assert presented(ends[0])[0] == taken.leaf.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "key",
    [P256, ("ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"), ("rsa:2048",), ("ed25519",), ("ed448",)],
    ids=lambda key: key[-1],
)
def test_a_firm_pair_is_served_and_not_said_to_be_weak(tmp_path: Path, key: Sequence[str]) -> None:
    taken = chains.read(*signed_by_openssl(tmp_path, key))
    assert taken.weakness == ""
    assert handshake(server(taken.pem), client())[0].version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (("rsa:512",), "512 bits"),
        (("ec", "-pkeyopt", "ec_paramgen_curve:prime192v1"), "curve secp192r1"),
        (("ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "curve secp256k1"),
    ],
    ids=["RSA 512", "P-192", "the curve of Bitcoin"],
)
def test_a_key_that_no_peer_could_speak_with_is_refused(
    tmp_path: Path, key: Sequence[str], says: str
) -> None:
    with pytest.raises(Refused, match=says):
        chains.read(*signed_by_openssl(tmp_path, key))


def beside(pair: bytes, other: bytes) -> dict[str, bytes]:
    """What people and programs put into `tls.key`, whose pair is `pair`."""
    key = pair[: pair.index(b"-----BEGIN CERTIFICATE-----")]
    return {
        "its own certificate before it": pair[len(key) :] + key,
        "another certificate before it": other[other.index(b"-----BEGIN CERTIFICATE-----") :] + key,
        "another certificate behind it": key + other[other.index(b"-----BEGIN CERTIFICATE-----") :],
        "indented": b"".join(b"    " + line + b"\n" for line in key.splitlines()),
        "with attributes of PKCS#12": b"Bag Attributes\n    friendlyName: mx\n" + key,
        "with Windows' line ends": key.replace(b"\n", b"\r\n"),
    }


def test_a_key_with_other_things_beside_it_is_served_with_its_own_certificate(authority: Authority) -> None:
    pair, other = authority.issue("a.example"), authority.issue("b.example")
    certificates = pair[pair.index(b"-----BEGIN CERTIFICATE-----") :]
    for what, text in beside(pair, other).items():
        taken = chains.read(text, certificates)
        ends = handshake(server(taken.pem), client())
        assert presented(ends[0])[0] == leaf_der(pair), what
