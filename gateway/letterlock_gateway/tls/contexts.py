"""SSL contexts per policy. Built off to the side, tried, and only then used; never changed afterwards.

`load_cert_chain` on a context in use with a pair that does not match breaks every later handshake
(measured), so a pair is always tried on a new context.
"""

import os
import ssl
import warnings
from collections.abc import Mapping
from typing import Final, Literal

from letterlock_api import authorities, strength
from letterlock_api.destinationcontrol import TLSVersion

_VERSIONS: Final[Mapping[TLSVersion, ssl.TLSVersion]] = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_OLD: Final = frozenset({"TLSv1", "TLSv1.1"})

ClientCertificates = Literal["None", "Optional", "Required"]


class BadCertificate(ValueError):  # noqa: N818 - says what it is, like ssl.CertificateError's own name
    """A key or chain that cannot be used; the text says why."""


def server_context(
    pem: bytes,
    *,
    min_version: TLSVersion,
    ciphers: str | None,
    client_certificates: ClientCertificates,
    client_ca: bytes,
) -> ssl.SSLContext:
    """A context that serves `pem` (private key, certificate, intermediates in sending order).

    With `client_certificates` a client is asked for a certificate, and one that does not chain to
    `client_ca` (PEM) fails the handshake; what passes is for `tls.verify` to judge. Raises BadCertificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_policy(context, pem, min_version, ciphers)
    # Renegotiation lets a stranger spend our CPU, and compression leaks (CRIME).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # OpenSSL's default is two, for browsers that open several connections; each costs every client of every session.
    context.num_tickets = 1
    _load(context, pem)
    if client_certificates != "None":
        # A session resumed by ticket keeps a client's certificate without its chain, which could then not be judged.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        # Of several listed certificates of one name OpenSSL tries one issuer; a peer's own that is listed counts
        # all the same, before and after its renewal. Anchors are none the more: `tls.verify` judges again.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if client_ca.strip():
            context.load_verify_locations(cadata=client_ca.decode("ascii", "replace"))
        context.verify_mode = ssl.CERT_REQUIRED if client_certificates == "Required" else ssl.CERT_OPTIONAL
    return context


def with_sni(default: ssl.SSLContext, by_name: Mapping[str, ssl.SSLContext]) -> ssl.SSLContext:
    """`default`, which answers with another context where the client asks for its name (RFC 6066 section 3)."""

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, asked: str | None, _: ssl.SSLContext) -> None:
        if asked is None:
            return
        name = asked.lower().rstrip(".")
        chosen = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if chosen is not None:
            connection.context = chosen

    default.sni_callback = choose
    return default


def client_context(
    *, min_version: TLSVersion, ciphers: str | None, certificate: bytes | None
) -> ssl.SSLContext:
    """A context for outgoing TLS that takes any certificate: `tls.verify` judges it after the handshake.

    `certificate` (key and chain, PEM) is presented when the peer asks for one. Raises BadCertificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_COMPRESSION
    _set_policy(context, certificate, min_version, ciphers)
    if certificate is not None:
        _load(context, certificate)
    return context


def _set_policy(
    context: ssl.SSLContext, pem: bytes | None, min_version: TLSVersion, ciphers: str | None
) -> None:
    weak = min_version in _OLD or (pem is not None and _is_weak(pem))
    if ciphers or weak:
        wanted = ciphers or "DEFAULT"
        try:
            context.set_ciphers(f"{wanted}:@SECLEVEL=0" if weak else wanted)
        except ssl.SSLError:
            raise BadCertificate(f"the cipher list {wanted!r} names no cipher that OpenSSL knows") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are set on purpose
        context.minimum_version = _VERSIONS[min_version]


def _is_weak(pem: bytes) -> bool:
    """Whether OpenSSL's default level (2) refuses a certificate in it. Such are honoured (C1), and said to be weak."""
    try:
        return any(strength.weakness(one) for one in authorities.load_all(pem))
    except authorities.PARSE_ERRORS:
        return False  # load_cert_chain says it better


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load key and chain; OpenSSL wants a path; a memfd has one without being on a disk."""
    descriptor = os.memfd_create("letterlock-tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadCertificate("the private key does not belong to the certificate") from None
        raise BadCertificate(f"key or certificate cannot be read ({error.reason or error})") from None
    finally:
        os.close(descriptor)
