"""The TLS handshake of a server, on a transport in use (STARTTLS) or on a bare socket (SMTPS).

Called by `connection`.
"""

import asyncio
import ssl

from letterlock_gateway.receive import sockets, times


async def shake(
    transport: asyncio.Transport | sockets.Bare, protocol: asyncio.Protocol, context: ssl.SSLContext
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


def explain(error: Exception) -> str:
    """For people: why a handshake failed."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, ConnectionResetError):
        return "the client closed the connection"
    return str(error) or type(error).__name__
