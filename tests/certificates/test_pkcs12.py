"""PKCS#12 files of openssl and of Java, both ways, and everything that can be wrong with one (C4, C5)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from letterlock_operator import pkcs12
from letterlock_operator.decide.pems import Refused
from letterlock_operator.plan import ExportedFile
from tests.certificates.programs import PASSPHRASE, keytool, openssl, pair
from tests.decide.authority import intermediate, root

type Maker = Callable[[Path], Path]


def exported(folder: Path, *options: str | Path, passphrase: str = PASSPHRASE) -> Path:
    file = folder / "out.p12"
    openssl("pkcs12", "-export", "-out", file, "-passout", f"pass:{passphrase}", *options)
    return file


def modern(folder: Path) -> Path:
    key, certificate = pair(folder)
    return exported(folder, "-inkey", key, "-in", certificate)


def legacy(folder: Path) -> Path:
    key, certificate = pair(folder)
    return exported(folder, "-legacy", "-inkey", key, "-in", certificate)


def windows(folder: Path) -> Path:
    """Triple DES and SHA-1, a friendly name, the provider's name, and the chain in another order."""
    key, certificate = pair(folder)
    others = folder / "others.pem"
    others.write_text(root().pem + intermediate().pem)
    return exported(
        folder,
        *("-inkey", key, "-in", certificate, "-certfile", others, "-name", "{A9F1-77}", "-macalg", "sha1"),
        *(
            "-certpbe",
            "PBE-SHA1-3DES",
            "-keypbe",
            "PBE-SHA1-3DES",
            "-CSP",
            "Microsoft Strong Cryptographic Provider",
        ),
    )


def java(folder: Path) -> Path:
    file = folder / "java.p12"
    keytool(
        *("-genkeypair", "-alias", "mx", "-keyalg", "RSA", "-keysize", "2048", "-dname", "CN=mx.example.com"),
        *(
            "-ext",
            "SAN=dns:mx.example.com",
            "-storetype",
            "PKCS12",
            "-keystore",
            file,
            "-storepass",
            PASSPHRASE,
        ),
    )
    return file


@pytest.mark.parametrize("make", [modern, legacy, windows, java], ids=lambda make: make.__name__)
def test_files_of_other_programs_are_read(make: Maker, tmp_path: Path):
    contents = pkcs12.read(make(tmp_path).read_bytes(), PASSPHRASE.encode())
    assert contents.key is not None
    key = load_pem_private_key(contents.key, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    leaf, *others = contents.certificates
    assert leaf.public_key() == key.public_key()
    assert "CN=mx.example.com" in leaf.subject.rfc4514_string()
    assert len(others) == (2 if make is windows else 0)


def test_a_passphrase_from_a_file_may_end_with_a_line_end(tmp_path: Path):
    file = modern(tmp_path).read_bytes()
    assert pkcs12.read(file, f"{PASSPHRASE}\n".encode()).key
    assert pkcs12.read(file, f"{PASSPHRASE}\r\n".encode()).key


def test_a_file_without_passphrase_needs_none(tmp_path: Path):
    key, certificate = pair(tmp_path)
    file = exported(tmp_path, "-inkey", key, "-in", certificate, passphrase="")
    assert pkcs12.read(file.read_bytes(), None).key


def several(folder: Path) -> Path:
    file = java(folder)
    keytool(
        *(
            "-genkeypair",
            "-alias",
            "other",
            "-keyalg",
            "RSA",
            "-keysize",
            "2048",
            "-dname",
            "CN=other.example",
        ),
        *("-storetype", "PKCS12", "-keystore", file, "-storepass", PASSPHRASE),
    )
    return file


def keyless(folder: Path) -> Path:
    _, certificate = pair(folder)
    return exported(folder, "-nokeys", "-in", certificate)


def pem(folder: Path) -> Path:
    return pair(folder)[0]


def truncated(folder: Path) -> Path:
    file = modern(folder)
    file.write_bytes(file.read_bytes()[:400])
    return file


@pytest.mark.parametrize(
    ("make", "passphrase", "reason", "says"),
    [
        pytest.param(modern, "wrong", "WrongPassphrase", "does not open it", id="wrong passphrase"),
        pytest.param(modern, "", "WrongPassphrase", "needs a passphrase", id="no passphrase"),
        pytest.param(several, PASSPHRASE, "SeveralKeys", "several private keys", id="several keys"),
        pytest.param(pem, PASSPHRASE, "InvalidPKCS12", "it is PEM", id="a PEM file"),
        pytest.param(truncated, PASSPHRASE, "WrongPassphrase", "damaged", id="half a file"),
    ],
)
def test_what_is_wrong_is_said(make: Maker, passphrase: str, reason: str, says: str, tmp_path: Path):
    with pytest.raises(Refused) as refused:
        pkcs12.read(make(tmp_path).read_bytes(), passphrase.encode() or None)
    assert refused.value.reason == reason
    assert says in refused.value.message
    assert PASSPHRASE not in refused.value.message


def test_a_file_without_a_key_shows_its_certificates(tmp_path: Path):
    contents = pkcs12.read(keyless(tmp_path).read_bytes(), PASSPHRASE.encode())
    assert contents.key is None
    assert [one.subject.rfc4514_string() for one in contents.certificates] == [
        "CN=mx.example.com,O=Example Ltd"
    ]


@pytest.mark.parametrize("algorithm", ["rsa:2048", "ec"])
def test_exports_open_with_openssl_and_keytool_and_come_back(algorithm: str, tmp_path: Path):
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    options = ("-newkey", algorithm, *(("-pkeyopt", "ec_paramgen_curve:P-256") if algorithm == "ec" else ()))
    openssl(
        *(
            "req",
            "-x509",
            "-nodes",
            *options,
            "-keyout",
            key,
            "-out",
            certificate,
            "-subj",
            "/CN=mx.example.com",
        ),
    )
    whole = key.read_bytes() + certificate.read_bytes() + intermediate().pem.encode()
    made = pkcs12.write(ExportedFile("mx.p12", "mx (default-0)", whole, PASSPHRASE.encode()))
    file = tmp_path / "mx.p12"
    file.write_bytes(made)
    shown = openssl("pkcs12", "-in", file, "-passin", f"pass:{PASSPHRASE}", "-nodes")
    assert shown.count(b"BEGIN CERTIFICATE") == 2
    assert b"friendlyName: mx (default-0)" in shown
    assert openssl("pkey", text=shown) == openssl("pkey", "-in", key)
    listed = keytool("-list", "-v", "-keystore", file, "-storetype", "PKCS12", "-storepass", PASSPHRASE)
    assert "PrivateKeyEntry" in listed
    assert "CN=mx.example.com" in listed
    back = pkcs12.read(made, PASSPHRASE.encode())
    assert back.key is not None
    assert openssl("pkey", text=back.key) == openssl("pkey", "-in", key)
    assert len(back.certificates) == 2
