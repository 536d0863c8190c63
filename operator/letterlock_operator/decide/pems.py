"""Reads certificates out of PEM as people paste it, no I/O. Called by `chains`, `covering` and the command line.

Taken as it is meant: indented or wrapped anyhow, with Windows line ends, non-breaking spaces, text between the
blocks (`openssl s_client -showcerts`, bag attributes), the last line unfinished (RFC 7468 section 2 asks readers
to be lenient about white space).
"""

import base64
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, override

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from letterlock_api.conditions import Reason

_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 #]{1,40})-----")
_CERTIFICATES: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"})
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]+")
# A chain has a handful; a list of authorities some hundreds, and is read elsewhere.
_MOST: Final = 100


class Refused(Exception):  # noqa: N818 - it is the user's input that is wrong
    """Input that cannot be used: the reason for conditions, the message for people.

    `until`: from when on it can be; None: as it is, never.
    """

    def __init__(self, reason: Reason, message: str, until: datetime | None = None) -> None:
        # All of them, so that it comes whole out of the process that read the input.
        super().__init__(reason, message, until)
        self.reason = reason
        self.message = message
        self.until = until

    @override
    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Block:
    """One block of PEM."""

    label: bytes
    """Such as CERTIFICATE."""
    body: bytes
    """What stands between its BEGIN and its END, or up to the next BEGIN."""
    closed: bool
    """Whether it has an END."""

    @property
    def whole(self) -> bytes:
        """The block as it was, on lines of its own."""
        end = b"-----END %s-----\n" % self.label if self.closed else b"\n"
        return b"-----BEGIN %s-----" % self.label + self.body + end

    @property
    def pem(self) -> bytes:
        """The block as RFC 7468 section 3 writes it. With headers (RFC 1421) as it is, for they have a meaning."""
        lines = [self.body.strip()]
        if b":" not in self.body:
            digits = _NOT_BASE64.sub(b"", self.body)
            digits += b"=" * (-len(digits) % 4)
            lines = [digits[start : start + 64] for start in range(0, len(digits), 64)]
        return b"\n".join((b"-----BEGIN %s-----" % self.label, *lines, b"-----END %s-----\n" % self.label))


def blocks(text: bytes) -> Iterator[Block]:
    """All blocks in `text`. Takes time in proportion to its length, whatever stands in it."""
    begins = list(_BEGIN.finditer(text))
    for number, begin in enumerate(begins, start=1):
        stop = begins[number].start() if number < len(begins) else len(text)
        end = text.find(b"-----END " + begin[1] + b"-----", begin.end(), stop)
        yield Block(begin[1], text[begin.end() : stop if end < 0 else end], closed=end >= 0)


def certificates(text: bytes, *, most: int | None = _MOST) -> list[x509.Certificate]:
    """Every certificate in `text`, in its order, each once. Raises Refused where there is none, or a broken one.

    Blocks of other kinds (keys, requests) are passed over. `most`: how many are taken; None: any number.
    """
    found: dict[x509.Certificate, None] = {}
    for number, block in enumerate(blocks(text), start=1):
        if block.label not in _CERTIFICATES:
            continue
        if not block.closed:
            what = "the certificate" if not found else f"the certificate in block {number}"
            raise Refused(Reason.INVALID_PEM, f"{what} has no end: paste it whole, with its END line")
        found[_certificate(block.body, number)] = None
        if most is not None and len(found) > most:
            raise Refused(
                Reason.INVALID_PEM, f"it holds more than {most} certificates: give one with its chain"
            )
    if found:
        return list(found)
    raise Refused(
        Reason.INVALID_PEM, "there is no certificate in it: paste PEM (-----BEGIN CERTIFICATE-----)"
    )


def der(body: bytes) -> bytes:
    """What a certificate's block holds. Raises ValueError where that is no base64."""
    digits = _NOT_BASE64.sub(b"", body)
    return _first_value(base64.b64decode(digits + b"=" * (-len(digits) % 4)))


def _certificate(body: bytes, number: int) -> x509.Certificate:
    try:
        with warnings.catch_warnings():
            # Serial numbers of 0 and the like: old, and used all the same.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificate = x509.load_der_x509_certificate(der(body))
        # Parsed lazily: what is broken inside shall show now, and not when it is served.
        certificate.public_key()
        _ = (certificate.subject, certificate.issuer, certificate.extensions, certificate.not_valid_after_utc)
    except Exception as error:  # noqa: BLE001 - whatever cryptography raises for bytes of strangers, they are no certificate
        raise Refused(
            Reason.INVALID_PEM, f"block {number} is not a certificate that can be read: {_said(error)}"
        ) from None
    return certificate


def _first_value(content: bytes) -> bytes:
    """The first DER value: a TRUSTED CERTIFICATE carries OpenSSL's own settings behind it."""
    if len(content) < 2 or content[1] < 0x80:
        return content
    octets = content[1] & 0x7F
    length = int.from_bytes(content[2 : 2 + octets])
    return content[: 2 + octets + length]


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:100] or type(error).__name__
