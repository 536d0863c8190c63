"""Bytes of strangers where certificates and PKCS#12 files are expected: read, or refused with a reason (C3, C4)."""

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letterlock_api.conditions import Reason
from letterlock_gateway.tls import contexts
from letterlock_operator import pkcs12
from letterlock_operator.decide import chains, pems
from letterlock_operator.decide.pems import Refused
from tests.decide.builders import tls_secret

PASSPHRASE = b"secret"


@cache
def pair() -> tuple[bytes, bytes]:
    made = tls_secret("mx", "mx.example.com")
    return made.data["tls.key"], made.data["tls.crt"]


@cache
def file() -> bytes:
    """A PKCS#12 file that is opened fast: thousands of them are."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12 as made

    key, chain = pair()
    loaded = serialization.load_pem_private_key(key, None)
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(1)
        .key_cert_algorithm(made.PBES.PBESv2SHA256AndAES256CBC)
        .build(PASSPHRASE)
    )
    leaf = x509.load_pem_x509_certificate(chain)
    return made.serialize_key_and_certificates(b"mx", loaded, leaf, None, encryption)  # pyright: ignore[reportArgumentType] - an EC key


@st.composite
def mutated(draw: st.DrawFn, good: bytes) -> bytes:
    """`good` with some bytes changed, cut out or put in."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.integers(0, 3)):
            case 0:
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del content[at : at + draw(st.integers(1, 40))]
            case 2:
                content[at:at] = draw(st.binary(min_size=1, max_size=40))
            case _:
                content[at:at] = content[: draw(st.integers(1, 60))]
    return bytes(content)


def refusal[**P](read: Callable[P, object], *arguments: P.args, **options: P.kwargs) -> Refused | None:
    """Why it was refused, with all that a condition needs; None: it was read."""
    try:
        read(*arguments, **options)
    except Refused as refused:
        found = refused
    else:
        return None
    assert isinstance(found.reason, Reason)
    assert found.message
    assert PASSPHRASE.decode() not in found.message
    return found


def opened(content: bytes, passphrase: bytes | None) -> None:
    refusal(pkcs12.read, content, passphrase)


@given(st.binary(max_size=400))
def test_random_bytes_are_no_pkcs12_file(content: bytes):
    opened(content, PASSPHRASE)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_mutated_pkcs12_file_is_read_or_refused(data: st.DataObject):
    opened(data.draw(mutated(file())), PASSPHRASE)


def test_a_file_that_asks_for_endless_work_is_refused_at_once():
    one = b"\x02\x01\x01"  # one round, as this file's own parts ask for
    assert one in file()
    for rounds in (b"\x02\x04\x7f\xff\xff\xff", b"\x02\x08\x7f" + b"\xff" * 7):
        for at in range(len(file()) - 3):
            if file()[at : at + 3] != one:
                continue
            grown = file()[:at] + rounds + file()[at + 3 :]
            opened(grown, PASSPHRASE)  # with broken lengths around it: read or refused, but soon


def test_derivation_rounds_are_counted():
    # PBKDF2-params (RFC 8018 A.2): SEQUENCE { OCTET STRING salt, INTEGER iterationCount }
    parameters = b"\x30\x0c\x04\x04salt\x02\x04\x7f\xff\xff\xff"
    assert list(pkcs12.rounds(parameters)) == [0x7FFFFFFF]


def _read(key: bytes, chain: bytes) -> None:
    """Whatever is taken can be served: a member that cannot load one pair keeps back every other change."""
    if refusal(chains.read, key, chain) is None:
        taken = chains.read(key, chain)
        assert taken.fingerprint
        contexts.server_context(
            taken.pem, min_version="TLSv1.2", ciphers=None, client_certificates="None", client_ca=b""
        )


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_a_mutated_certificate_is_read_or_refused(data: st.DataObject):
    key, chain = pair()
    _read(key, data.draw(mutated(chain)))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_mutated_key_is_read_or_refused(data: st.DataObject):
    key, chain = pair()
    _read(data.draw(mutated(key)), chain)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_random_bytes_are_no_pair(key: bytes, chain: bytes):
    _read(key, chain)


@given(st.binary(max_size=300))
def test_random_bytes_in_a_pem_block_are_no_certificate(content: bytes):
    import base64

    text = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(content) + b"-----END CERTIFICATE-----\n"
    refused = refusal(pems.certificates, text)
    assert refused is None or refused.reason == Reason.INVALID_PEM


@given(
    st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\xc2\xa0", b"\xef\xbb\xbf"]), min_size=1, max_size=30),
    st.data(),
)
def test_white_space_anywhere_between_the_lines_changes_nothing(blanks: list[bytes], data: st.DataObject):
    def pasted(text: bytes) -> bytes:
        lines = text.splitlines(keepends=True)
        for blank in blanks:
            lines.insert(data.draw(st.integers(0, len(lines))), blank)
        return b"".join(lines)

    key, chain = pair()
    assert pems.certificates(pasted(chain)) == pems.certificates(chain)
    assert chains.read(pasted(key), pasted(chain)).pem == chains.read(key, chain).pem


@pytest.mark.parametrize("line", [b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_text_of_nothing_but_beginnings_is_refused_at_once(line: bytes):
    # 4 MiB; a reader that looks for each END up to the end of the text takes hours.
    refused = refusal(chains.read, line * ((4 << 20) // len(line)), line * ((4 << 20) // len(line)))
    assert refused is not None
    key, _ = pair()
    assert refusal(chains.read, key, line * ((4 << 20) // len(line))) is not None
