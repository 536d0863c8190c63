"""Signs in at a smart host (SMTP AUTH, RFC 4954), over verified TLS and never otherwise. Called by `connecting`.

PLAIN and LOGIN: what smart hosts take a password by. The password never reaches a log or a reason, not even
where the peer repeats it.
"""

import base64
from collections.abc import Mapping
from typing import Final

from letterlock_api.credentials import Credentials
from letterlock_gateway import values
from letterlock_gateway.deliver.outcomes_table import Event
from letterlock_gateway.deliver.replies import Reply
from letterlock_gateway.deliver.wire import Wire

_CHALLENGE: Final = 334
_SIGNED_IN: Final = 235


@values.value
class Refused:
    """It came to nothing."""

    event: Event
    detail: str
    reply: Reply | None = None


def mechanism(offered: Mapping[str, str]) -> str:
    """The mechanism to use, of those in the EHLO reply's keywords; empty: none that we know."""
    mechanisms = offered.get("AUTH", "").upper().split()
    return next((one for one in ("PLAIN", "LOGIN") if one in mechanisms), "")


async def sign_in(
    wire: Wire, offered: Mapping[str, str], credentials: Credentials, seconds: float
) -> Refused | None:
    """Sign in on a connection that is encrypted and verified. None: done. Raises Lost."""
    chosen = mechanism(offered)
    if not chosen:
        said = offered.get("AUTH") or "none"
        return Refused(Event.SIGN_IN_NOT_OFFERED, f"it offers {said}; PLAIN or LOGIN is needed")
    reply = await (_plain if chosen == "PLAIN" else _login)(wire, credentials, seconds)
    if reply.code == _SIGNED_IN:
        return None
    return Refused(
        Event.SIGN_IN_REFUSED, f"as {credentials.username} by {chosen}", _scrubbed(reply, credentials)
    )


async def _plain(wire: Wire, credentials: Credentials, seconds: float) -> Reply:
    response = _encoded(f"\0{credentials.username}\0{credentials.password}")
    reply = await wire.command(f"AUTH PLAIN {response}", seconds)
    if reply.code == _CHALLENGE:  # it does not take an initial response (RFC 4954 section 4)
        reply = await wire.command(response, seconds)
    return reply


async def _login(wire: Wire, credentials: Credentials, seconds: float) -> Reply:
    reply = await wire.command("AUTH LOGIN", seconds)
    for value in (credentials.username, credentials.password):
        if reply.code != _CHALLENGE:
            break
        reply = await wire.command(_encoded(value), seconds)
    return reply


def _scrubbed(reply: Reply, credentials: Credentials) -> Reply:
    """`reply` without anything that was said to the peer in confidence."""
    confidential = (
        _encoded(f"\0{credentials.username}\0{credentials.password}"),
        _encoded(credentials.password),
        credentials.password,
    )
    lines = list(reply.lines)
    for one in confidential:
        lines = [line.replace(one, "***") for line in lines]
    return Reply(reply.code, tuple(lines))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
