"""Signing in by user and password, or by client certificate. Called by `site`.

An unknown user costs as much time as a known one, and attempts are limited by address and by user: a guesser gets ten
an address and twenty a user in ten minutes.
"""

import asyncio
import hashlib
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import bcrypt

from letterlock_api import htpasswd
from letterlock_gateway.receive import clients
from letterlock_gateway.receive.access import Address
from letterlock_gateway.tls.trust import TrustStore
from letterlock_gateway.web.handed import Handed
from letterlock_gateway.web.throttle import Throttle, neighbourhood

_PERIOD: Final = 600.0  # seconds
_OF_ADDRESS: Final = 10
_OF_USER: Final = 20
# A bcrypt check takes a processor for a quarter of a second, and mail wants it too.
_AT_A_TIME: Final = 1
_WAITING: Final = 16
# bcrypt looks at no more; htpasswd cuts passwords there too.
_PASSWORD_BYTES: Final = 72
_KNOWN: Final = 10_000
# Salt and hash of nobody's password: 22 and 31 letters of bcrypt's alphabet.
_NOBODY: Final = "." * 53


@dataclass(frozen=True)
class Refused:
    """Nobody was signed in."""

    text: str
    """For the one who tries; the same for a wrong name and a wrong password."""
    wait: int = 0
    """Seconds until it may be tried again; 0: at once."""
    busy: bool = False


class Passwords:
    """Judges passwords, within limits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_address = Throttle(_OF_ADDRESS, _PERIOD)
        self._by_user = Throttle(_OF_USER, _PERIOD)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Who has signed in from where: strangers' attempts do not lock them out."""
        self._slots = asyncio.Semaphore(_AT_A_TIME)
        self._waiting = 0

    async def judge(
        self, user: str, password: str, address: Address, hashes: Mapping[str, str]
    ) -> Refused | None:
        """None: that is the user's password. `hashes`: bcrypt, by user."""
        now = self._clock()
        user = user[: htpasswd.MAX_NAME]
        near = neighbourhood(address)
        wait = self._by_address.wait(near, now)
        if (user, near) not in self._known:
            wait = max(wait, self._by_user.wait(user, now))
        if wait > 0:
            return Refused("Too many attempts.", wait=int(wait) + 1)
        if self._waiting >= _WAITING:
            return Refused("Too many people sign in at this moment.", wait=5, busy=True)
        self._by_address.count(near, now)
        self._by_user.count(user, now)
        self._waiting += 1
        try:
            async with self._slots:
                right = await asyncio.to_thread(_matches, user, password, hashes)
        finally:
            self._waiting -= 1
        if not right:
            return Refused("User or password is wrong.")
        self._by_address.forget(near)
        self._by_user.take_back(user)
        self._known[user, near] = None
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return None


def _matches(user: str, password: str, hashes: Mapping[str, str]) -> bool:
    hashed = hashes.get(user)
    given = password.encode("utf-8", "surrogatepass")[:_PASSWORD_BYTES]
    if b"\0" in given:
        given, hashed = b"", None
    found = bcrypt.checkpw(given, (hashed or _like_somebodys(user, hashes)).encode())
    return found and hashed is not None


def _like_somebodys(user: str, hashes: Mapping[str, str]) -> str:
    """A hash that costs what one of the users' costs, always the same for one name: time tells nobody who is there."""
    costs = sorted(htpasswd.cost(one) for one in hashes.values()) or [htpasswd.MIN_COST]
    number = int.from_bytes(hashlib.sha256(user.encode("utf-8", "surrogatepass")).digest()[:4])
    return f"$2b${costs[number % len(costs)]:02}${_NOBODY}"


def holder(connection: ssl.SSLObject | None, handed: Handed, trust: TrustStore, now: float) -> str | None:
    """The subject of a client certificate that signs its holder in; None: there is none, or another one."""
    wanted = handed.management
    if connection is None or not wanted.client_certificates:
        return None
    chain = clients.presented(connection)
    if not chain or not (wanted.client_names or wanted.client_fingerprints):
        return None
    problem, subject = clients.problem(
        chain,
        trust,
        datetime.fromtimestamp(now, UTC),
        names_listed=wanted.client_names,
        fingerprints=wanted.client_fingerprints,
    )
    return None if problem else subject
