"""What DNS says of an answer, in words: the wizard shows it beside, and takes the answer all the same.

Called by `init_command`. DNS may be set up later, or may not be seen from here: nothing of this is an error.
"""

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Final, cast

from letterlock_cli.wizard.answers import split_port

# For all look-ups of one answer: people wait for it.
_SECONDS: Final = 4.0
_DOMAINS: Final = 5
SILENT: Final = "DNS gives no answer just now"


def notes(field: str, value: object, so_far: dict[str, object]) -> list[str]:
    """What is worth knowing about an answer; empty: nothing, or it cannot be found out."""
    said: list[str] = []
    # The system's look-ups cannot be stopped: a thread that nobody waits for any longer ends with the program.
    looking = threading.Thread(target=lambda: said.extend(_notes(field, value, so_far)), daemon=True)
    looking.start()
    looking.join(_SECONDS)
    return [SILENT] if looking.is_alive() else said


def _notes(field: str, value: object, so_far: dict[str, object]) -> list[str]:
    if field == "hostname" and "{" not in str(value):
        return [_host(str(value), "set up A or AAAA records before others shall find it")]
    if field == "next_hop":
        host, _ = split_port(str(value))
        return [_host(host, "mail waits until it does")]
    if field in {"domains", "verified_domains"}:
        names = cast("list[str]", value)
        wanted = str(so_far.get("hostname") or "") if field == "domains" else ""
        return asyncio.run(_all(names[:_DOMAINS], wanted))
    return []


async def _all(domains: Sequence[str], wanted: str) -> list[str]:
    return list(await asyncio.gather(*(_mx(one, wanted) for one in domains)))


def _host(name: str, advice: str) -> str:
    try:
        found = socket.getaddrinfo(name, 25, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return f"{name} has no address here: {advice}"
    return f"{name} is {', '.join(dict.fromkeys(str(one[4][0]) for one in found))}"


async def _mx(domain: str, wanted: str) -> str:
    from letterlock_gateway.deliver.lookups import Lookups
    from letterlock_gateway.deliver.nexthops import NotNow, Undeliverable

    try:
        # A null MX (RFC 7505) has the root for its host: nobody takes mail there.
        found = [name.rstrip(".") or "none, by a null MX" for _, name in sorted(await Lookups().mx(domain))]
    except (NotNow, Undeliverable):
        found = []
    listed = ", ".join(found) or "none is seen from here"
    if not wanted or "{" in wanted or wanted in found:
        return f"MX of {domain}: {listed}"
    return f"MX of {domain}: {listed}; mail comes here once it names {wanted}"
