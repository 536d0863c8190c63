"""Asking one gateway member how it is, over mutual TLS. Called by `following`, and by `letterlock up`.

Both sides prove that the gateway's internal CA knows them; a fixed name is proved, the address is not.
"""

import asyncio
import os
import ssl
from functools import lru_cache
from typing import Final

import aiohttp
from pydantic import ValidationError

from letterlock_api.state import INTERNAL_SERVER_NAME, STATE_PATH, MemberState
from letterlock_operator import issuing
from letterlock_operator.world import Keep

# A member answers from memory; one that takes longer is in trouble, and others wait for their turn.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)
# Seconds for a connection alone, which takes milliseconds, after a question that had its time for lost packets.
_CONNECTION: Final = 0.5
# 10,000 digests are about 1 MB. A member is not trusted with our memory.
_LIMIT: Final = 16 << 20


class MemberUnreachable(Exception):  # noqa: N818 - says what happened
    """The member gave no usable answer; the text says why, for people."""


async def poll(address: str, port: int, identity: Keep) -> MemberState:
    """The state of the member at `address`, by the gateway's internal Secret. Raises MemberUnreachable."""
    try:
        context = _context(
            identity.data[issuing.OPERATOR_IDENTITY], identity.data[issuing.INTERNAL_CA_CERTIFICATE]
        )
    except (KeyError, ssl.SSLError) as error:
        raise MemberUnreachable(f"Secret {identity.name} is not usable: {error}") from error
    host = f"[{address}]" if ":" in address else address
    url = f"https://{host}:{port}{STATE_PATH}"
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(
                url, ssl=context, server_hostname=INTERNAL_SERVER_NAME, allow_redirects=False
            ) as response,
        ):
            if response.status != 200:
                raise MemberUnreachable(f"it answered {response.status}")
            body = await _read(response)
    except TimeoutError as error:
        raise MemberUnreachable(await _silence(address, port)) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise MemberUnreachable(
            f"its certificate is not of this gateway: {error.certificate_error}"
        ) from error
    except aiohttp.ClientConnectorError as error:
        raise MemberUnreachable(f"no connection to {address} port {port}: {error.strerror}") from error
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        raise MemberUnreachable(str(error) or type(error).__name__) from error
    try:
        return MemberState.model_validate_json(body)
    except ValidationError as error:
        raise MemberUnreachable("its answer is not a member's state") from error


async def _silence(address: str, port: int) -> str:
    """Why there was no answer in time: whether the member's node takes a connection at all, though it lies still."""
    try:
        async with asyncio.timeout(_CONNECTION):
            _, writer = await asyncio.open_connection(address, port)
    except (TimeoutError, OSError):
        return (
            f"no connection to {address} port {port} within {_TIMEOUT.total} s:"
            " its node is down, what is sent there is lost, or it has lain still for minutes"
        )
    writer.transport.abort()
    return f"no answer within {_TIMEOUT.total} s"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LIMIT:
            raise MemberUnreachable(f"its answer is larger than {_LIMIT} bytes")
    return bytes(body)


@lru_cache(maxsize=256)
def _context(identity: bytes, ca: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca.decode())
    # OpenSSL reads key pairs from files only: one in memory, so that no key touches a disk.
    descriptor = os.memfd_create("letterlock-operator")
    try:
        os.write(descriptor, identity)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
