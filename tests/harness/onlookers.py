"""Somebody who looks at a listener's certificate all the time: what is served at any moment, and whether it works."""

import contextlib
import smtplib
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Self

from tests.harness.waiting import until

# Between two looks: quick enough to see every state that lasts, and little work.
_EVERY: Final = 0.05


def chain(address: str, port: int, name: str | None = None) -> list[bytes]:
    """The certificates (DER) that a listener presents after STARTTLS, leaf first. Raises OSError, SMTPException.

    The handshake is done, so the server has proved that the key is its own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP(address, port, local_hostname="onlooker.example", timeout=30) as client:
        if name is not None:
            client._host = name  # pyright: ignore[reportAttributeAccessIssue] - what it sends as SNI
        client.starttls(context=context)
        connected: Any = client.sock
        return [bytes(one) for one in connected.get_unverified_chain()]


def fingerprint(der: bytes) -> str:
    """As in a Certificate's status."""
    return sha256(der).hexdigest()


@dataclass
class Onlooker:
    """Looks without pause while the body of the `with` runs."""

    address: str
    port: int
    seen: list[str] = field(default_factory=list[str])
    """Fingerprints, in order, each look one."""
    failures: list[str] = field(default_factory=list[str])
    _ending: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, name="onlooker")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ending.wait(_EVERY):
            try:
                self.seen.append(fingerprint(chain(self.address, self.port)[0]))
            except (OSError, smtplib.SMTPException) as error:
                self.failures.append(repr(error))

    def served(self) -> str:
        """What a look that begins now will see; empty: nothing."""
        with contextlib.suppress(OSError, smtplib.SMTPException):
            return fingerprint(chain(self.address, self.port)[0])
        return ""

    def until_served(self, wanted: str) -> None:
        """Wait for this certificate."""
        until(lambda: self.served() == wanted, seconds=90, what=f"{wanted} on the wire")

    def looks(self, more: int) -> None:
        """Wait for so many more looks."""
        before = len(self.seen) + len(self.failures)
        until(lambda: len(self.seen) + len(self.failures) >= before + more, seconds=90, what="looks")

    def only(self, allowed: Sequence[str]) -> bool:
        """Whether nothing else was ever served, and no handshake failed."""
        assert self.seen
        return not self.failures and set(self.seen) <= set(allowed)
