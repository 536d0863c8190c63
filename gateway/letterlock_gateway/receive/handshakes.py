"""Why a handshake failed: in one word for metrics, and for people.

Called by `connection`.
"""

import ssl
from collections.abc import Mapping
from typing import Final

from letterlock_api.conditions import Reason

# What OpenSSL calls the failures that people meet, in words that say whose turn it is.
_IN_WORDS: Final[Mapping[str, str]] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no client certificate was presented (PEER_DID_NOT_RETURN_A_CERTIFICATE)",
    "UNSUPPORTED_PROTOCOL": "the client's protocol versions are below tls.minVersion (UNSUPPORTED_PROTOCOL)",
    "NO_SHARED_CIPHER": "the client has no cipher of tls.ciphers, or none for our key (NO_SHARED_CIPHER)",
    "WRONG_VERSION_NUMBER": "the client did not speak TLS (WRONG_VERSION_NUMBER)",
    "HTTP_REQUEST": "the client did not speak TLS (HTTP_REQUEST)",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust the CA of our certificate (TLSV1_ALERT_UNKNOWN_CA)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client refused our certificate (SSLV3_ALERT_BAD_CERTIFICATE)",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client refused our certificate (SSLV3_ALERT_CERTIFICATE_UNKNOWN)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client calls our certificate expired (SSLV3_ALERT_CERTIFICATE_EXPIRED)",
}


def reason(error: Exception) -> Reason:
    """The one word for it, for metrics."""
    return Reason.NOT_TRUSTED if isinstance(error, ssl.SSLCertVerificationError) else Reason.HANDSHAKE_FAILED


def explain(error: Exception) -> str:
    """For people: why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"client certificate not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return _IN_WORDS.get(reason) or reason or str(error)
    if isinstance(error, ConnectionResetError):
        return "the client closed the connection"
    return str(error) or type(error).__name__
