"""The TLS handshake of a server, on a transport in use (STARTTLS) or on a bare socket (SMTPS).

Called by `connection`.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

from letterlock_api.conditions import Reason
from letterlock_gateway.receive import sockets, times

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


async def shake(
    transport: asyncio.Transport | sockets.Bare, protocol: asyncio.BufferedProtocol, context: ssl.SSLContext
) -> asyncio.Transport | None:
    """The transport that encrypts from now on; None: the connection was closed meanwhile.

    Raises OSError (ssl.SSLError is one) where the handshake failed, RuntimeError where the transport was
    closing.
    """
    loop = asyncio.get_running_loop()
    if isinstance(transport, sockets.Bare):
        secure, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            transport.hand_over(),
            ssl=context,
            ssl_handshake_timeout=times.HANDSHAKE,
            ssl_shutdown_timeout=times.SHUTDOWN,
        )
        return secure
    return await loop.start_tls(
        transport,
        protocol,
        context,
        server_side=True,
        ssl_handshake_timeout=times.HANDSHAKE,
        ssl_shutdown_timeout=times.SHUTDOWN,
    )


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
