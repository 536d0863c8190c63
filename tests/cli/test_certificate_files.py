"""Files with certificates as openssl, Windows and people make them (C3, A5): one set, whatever the form."""

import base64
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterlock_cli import certificate_files
from letterlock_operator.decide import pems
from tests.certificates.programs import openssl
from tests.decide.authority import intermediate, root

BOTH = root().pem + intermediate().pem
type Form = Callable[[Path], bytes]


def p7b(folder: Path) -> bytes:
    return openssl("crl2pkcs7", "-nocrl", "-certfile", folder / "both.pem")


def p7c(folder: Path) -> bytes:
    return openssl("crl2pkcs7", "-nocrl", "-certfile", folder / "both.pem", "-outform", "DER")


def utf16(folder: Path) -> bytes:
    return BOTH.encode("utf-16")


def marked(folder: Path) -> bytes:
    return b"\xef\xbb\xbf" + BOTH.encode()


def indented(folder: Path) -> bytes:
    return textwrap.indent(BOTH, " \t ").replace("\n", " \r\n").encode()


def printed(folder: Path) -> bytes:
    """With text before each block, as `openssl x509 -text` prints it."""
    texts = [openssl("x509", "-text", text=one.pem.encode()) for one in (root(), intermediate())]
    return b"\n".join(texts)


@pytest.mark.parametrize("form", [p7b, p7c, utf16, marked, indented, printed], ids=lambda one: one.__name__)
def test_both_certificates_come_out(form: Form, tmp_path: Path):
    (tmp_path / "both.pem").write_text(BOTH)
    made = certificate_files.pem(form(tmp_path))
    assert made is not None
    assert set(pems.certificates(made)) == {root().certificate, intermediate().certificate}


def test_beginnings_without_an_end_are_read_in_no_time():
    # 8 MiB, the largest file that is read: to look for each END up to the end of the file takes hours.
    for label in (b"PKCS7", b"CERTIFICATE"):
        line = b"-----BEGIN %s-----\n" % label
        assert certificate_files.pem(line * ((8 << 20) // len(line)))


def test_one_certificate_may_be_der_or_its_base64(tmp_path: Path):
    der = openssl("x509", "-outform", "DER", text=root().pem.encode())
    for form in (der, base64.encodebytes(der)):
        made = certificate_files.pem(form)
        assert made is not None
        assert pems.certificates(made) == [root().certificate]


def test_pkcs12_is_told_apart(tmp_path: Path):
    (tmp_path / "root.pem").write_text(root().pem)
    made = openssl("pkcs12", "-export", "-nokeys", "-in", tmp_path / "root.pem", "-passout", "pass:x")
    assert certificate_files.is_pkcs12(made)
    assert certificate_files.pem(made) is None
    der = openssl("x509", "-outform", "DER", text=root().pem.encode())
    assert not certificate_files.is_pkcs12(der)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"0\x82\x01\x00" + tail))
def test_bytes_of_strangers_give_pem_or_nothing(given: bytes):
    certificate_files.pem(given)
    certificate_files.pem(b"-----BEGIN PKCS7-----" + given + b"-----END PKCS7-----")
    certificate_files.is_pkcs12(given)
