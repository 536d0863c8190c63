"""Sessions: signed tokens that every member of a gateway can read, so that a Service may send requests to any. Pure.

A token holds who signed in, when, and when it was last renewed. Its signature also covers the user's password hash: who
changes a password, or takes a user away, ends that user's sessions. Time is given, in Unix seconds.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

IDLE: Final = 1800.0
"""Seconds without a request after which a session ends."""
LONGEST: Final = 12 * 3600.0
"""Seconds after which everybody signs in again."""
_RENEW_AFTER: Final = 60.0
_LONGEST_TOKEN: Final = 1024
_REVOKED: Final = 10_000


@dataclass(frozen=True)
class Session:
    """A session that is good."""

    user: str
    began: int
    seen: int
    number: str


class Sessions:
    """Makes and reads tokens. `secret`: what all members of the gateway share."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.new(secret, b"letterlock management sessions", hashlib.sha256).digest()
        self._ended: dict[str, float] = {}

    def open(self, user: str, hashed: str, now: float) -> str:
        """A token for a new session of `user`, whose password hash is `hashed`."""
        return self._token(Session(user, int(now), int(now), secrets.token_urlsafe(12)), hashed)

    def read(self, token: str, hashes: Mapping[str, str], now: float) -> Session | None:
        """The session of `token`; None: it has ended, or never was."""
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            return None
        try:
            user64, began, seen, number, _ = token.split(".")
            session = Session(_decoded(user64), int(began), int(seen), number)
        except (ValueError, binascii.Error):
            return None
        hashed = hashes.get(session.user)
        if hashed is None or not hmac.compare_digest(token.encode(), self._token(session, hashed).encode()):
            return None
        # A time ahead of ours is that of another member's clock; a little of that does no harm.
        fresh = now - session.seen < IDLE and now - session.began < LONGEST
        return session if fresh and session.number not in self._ended else None

    def renewed(self, session: Session, hashed: str, now: float) -> str | None:
        """A token that says it was used now; None: the one at hand is new enough."""
        if now - session.seen < _RENEW_AFTER:
            return None
        return self._token(Session(session.user, session.began, int(now), session.number), hashed)

    def end(self, session: Session, now: float) -> None:
        """Sign out: no copy of its tokens counts here any more."""
        self._ended = {number: at for number, at in self._ended.items() if now - at < LONGEST}
        if len(self._ended) < _REVOKED:
            self._ended[session.number] = now

    def proof(self, bound: str) -> str:
        """What a form carries, so that no other site can send it (CSRF). `bound`: the session's number."""
        return self._mac(f"form\0{bound}")

    def proves(self, proof: str, bound: str) -> bool:
        """Whether it is that."""
        return proof.isascii() and hmac.compare_digest(proof.encode(), self.proof(bound).encode())

    def _token(self, session: Session, hashed: str) -> str:
        said = f"{_encoded(session.user)}.{session.began}.{session.seen}.{session.number}"
        return f"{said}.{self._mac(f'session\0{said}\0{hashed}')}"

    def _mac(self, text: str) -> str:
        return (
            base64.urlsafe_b64encode(hmac.new(self._key, text.encode(), hashlib.sha256).digest())
            .decode()
            .rstrip("=")
        )


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
