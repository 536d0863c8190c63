"""What a certificate in a CA list counts as. The operator judges lists by it, members verify peers by it.

One place, so that what a status says of a list is what its members do. Foreign errors end here too: whoever
reads certificates of strangers catches `Unreadable`, and nothing else.
"""

import warnings
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID

# All that cryptography raises for certificates that are none, or broken somewhere: an extension that stands
# there twice, or whose value is nonsense, is found only when it is looked at.
PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    OverflowError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
_TLS_USES: Final = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


class Role(StrEnum):
    """What a certificate can be in a CA list."""

    ROOT = "root"
    """A CA that signed itself: an anchor."""
    INTERMEDIATE = "intermediate"
    """A CA that another one signed: helps to build chains, and is no anchor by itself."""
    PINNED = "itself only"
    """A self-signed end-entity certificate: trusted as it is, and for nobody that it may have signed."""
    SELF_ISSUED = "self-issued"
    """A CA whose own key did not sign it, though its own name did: a roll-over certificate, or a forged root."""
    END_ENTITY = "end-entity"
    """An end-entity certificate that somebody else signed: nothing to trust by itself."""


class Unreadable(ValueError):  # noqa: N818 - says what it is
    """A certificate that cannot be read; the text says where it is broken."""


def load_der(der: bytes) -> x509.Certificate:
    """The certificate in `der`, its extensions looked at. Raises Unreadable."""
    try:
        with warnings.catch_warnings():
            # Some roots, Mozilla's among them, have a serial number of 0; nobody needs a warning each time.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return _checked(x509.load_der_x509_certificate(der))
    except PARSE_ERRORS as error:
        raise Unreadable(_text(error)) from error


def load_all(pem: bytes) -> list[x509.Certificate]:
    """All certificates in `pem`; none in a text without any. Raises Unreadable where one of them is broken."""
    if b"-----BEGIN" not in pem:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return [_checked(one) for one in x509.load_pem_x509_certificates(pem)]
    except PARSE_ERRORS as error:
        raise Unreadable(_text(error)) from error


def role(certificate: x509.Certificate) -> Role:
    """What `certificate` (as the loaders above give it) counts as."""
    own = is_self_signed(certificate)
    if not _may_sign(certificate, own=own):
        return Role.PINNED if own else Role.END_ENTITY
    if own:
        return Role.ROOT
    # OpenSSL would take it for a root: it believes the names, and checks no anchor's signature.
    return Role.SELF_ISSUED if certificate.issuer == certificate.subject else Role.INTERMEDIATE


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether its own key signed it. An issuer of its own name is not enough: keys are rolled over that way."""
    return certificate.issuer == certificate.subject and signed_by(certificate, certificate)


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the key of `issuer`, under its name, signed `certificate`."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except PARSE_ERRORS:
        # An algorithm that cryptography does not verify (DSA with old hashes, odd curves): the key
        # identifiers tell. Verification of a peer never rests on this: OpenSSL checks every signature.
        return _identifiers_fit(certificate, issuer)
    return True


def _may_sign(certificate: x509.Certificate, *, own: bool) -> bool:
    """Whether it is a CA: RFC 5280 sections 4.2.1.3 and 4.2.1.9, and what `openssl req -x509` makes of servers."""
    extensions = certificate.extensions
    try:
        authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return own and certificate.version == x509.Version.v1
    if not authority:
        return False
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        pass
    # `openssl req -x509` writes CA:TRUE into everything. One that carries what only a server or a client needs,
    # and does not claim to sign, is taken for what it is: the weaker reading.
    return not (own and _serves_tls(extensions))


def _serves_tls(extensions: x509.Extensions) -> bool:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if names.get_values_for_type(x509.DNSName) or names.get_values_for_type(x509.IPAddress):
            return True
    except x509.ExtensionNotFound:
        pass
    try:
        uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return not _TLS_USES.isdisjoint(uses)


def _identifiers_fit(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        wanted = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        given = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return True
    return wanted.key_identifier in (None, given.digest)


def _checked(certificate: x509.Certificate) -> x509.Certificate:
    """`certificate`, all of whose parts that anybody asks for later can be read."""
    _ = certificate.extensions, certificate.subject, certificate.issuer, certificate.version
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
