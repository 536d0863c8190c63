"""Certificates in the files that people get them in: PEM however it was pasted, DER, PKCS#7. No I/O but reading.

Called by the commands that upload certificates and import CA lists.
"""

import base64
import binascii
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from letterlock_cli.failures import CommandError

if TYPE_CHECKING:
    from cryptography import x509

    from letterlock_operator.decide import pems
    from letterlock_operator.decide.pems import Refused

# All roots of the world are some 250 KiB; what is larger than this is another file.
_LARGEST: Final = 8 << 20
_PKCS7: Final = frozenset({b"PKCS7", b"PKCS #7 SIGNED DATA"})
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_PKCS12_VERSION: Final = b"\x02\x01\x03"


def content(file: Path) -> bytes:
    """What is in `file` (`-`: stdin). Raises CommandError."""
    try:
        if str(file) == "-":
            read = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with file.open("rb") as opened:
                read = opened.read(_LARGEST + 1)
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from error
    if len(read) > _LARGEST:
        raise CommandError(
            f"TooLarge: {file} has more than {_LARGEST >> 20} MiB: it is no file of certificates"
        )
    if not read.strip():
        raise CommandError(f"InvalidPEM: {file} is empty")
    return read


def pem(given: bytes) -> bytes | None:
    """PEM of the certificates in `given`, broken blocks of PEM included; None: it is in no form that we know."""
    if given.startswith(_UTF16):  # Windows' editors
        given = given.decode("utf-16", errors="replace").encode()
    given = given.removeprefix(_UTF8_MARK)
    if b"-----BEGIN " in given:
        return _with_certificates_of_pkcs7(given)
    if given.startswith(b"\x30"):
        return _from_der(given)
    try:  # base64 without its BEGIN and END
        der = base64.b64decode(b"".join(given.split()), validate=True)
    except binascii.Error:
        return None
    return _from_der(der) if der.startswith(b"\x30") else None


def is_pkcs12(given: bytes) -> bool:
    """Whether `given` looks like a PKCS#12 file (RFC 7292 section 4: a sequence that begins with version 3)."""
    return given.startswith(b"\x30") and _PKCS12_VERSION in given[:9]


def refusal(error: "Refused", file: Path | None = None) -> CommandError:
    """The command's error for what is wrong with a file: the reason that conditions use, and what to do."""
    what = f"{file}: " if file is not None else ""
    return CommandError(f"{error.reason}: {what}{error.message}")


def _from_der(der: bytes) -> bytes | None:
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    for read in (_certificate, pkcs7.load_der_pkcs7_certificates):
        try:
            with warnings.catch_warnings():
                # Of serial numbers, and of BER where DER was meant: used all the same.
                warnings.simplefilter("ignore")
                return b"".join(one.public_bytes(Encoding.PEM) for one in read(der))
        except Exception:  # noqa: BLE001, S112 - whatever cryptography raises for bytes of strangers, they are none
            continue
    return None


def _certificate(der: bytes) -> "list[x509.Certificate]":
    from cryptography import x509

    return [x509.load_der_x509_certificate(der)]


def _with_certificates_of_pkcs7(text: bytes) -> bytes:
    from letterlock_operator.decide import pems

    found = list(pems.blocks(text))
    if _PKCS7.isdisjoint(one.label for one in found):
        return text  # with its remarks: they number the blocks that are wrong
    return b"".join(_unpacked(one) if one.label in _PKCS7 else one.whole for one in found)


def _unpacked(block: "pems.Block") -> bytes:
    try:
        der = base64.b64decode(b"".join(block.body.split()))
    except binascii.Error:
        return block.whole
    return (_from_der(der) if block.closed else None) or block.whole
