"""Versions of one configuration that tell themselves apart in everything a client can see, and clients that compare.

For tests/mail/test_commit.py. A version sets the host name, the banner, SIZE, the TLS offer, the certificate and the
recipients all at once: a connection that saw parts of two of them saw a mixture.
"""

import contextlib
import hashlib
import smtplib
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tests.harness.certificates import Authority, leaf_der
from tests.harness.quickstart import resource

_SIZE: Final = 1_000_000


@dataclass(frozen=True)
class Version:
    """One valid state."""

    number: int
    mode: str
    pair: bytes
    """Key and certificate, PEM."""

    @property
    def fingerprint(self) -> str:
        """Of the certificate that it serves."""
        return hashlib.sha256(leaf_der(self.pair)).hexdigest()

    def listener(self, port: int, **changes: Any) -> dict[str, Any]:
        """Its Listener; `changes` are fields of the spec."""
        number = self.number
        spec: dict[str, Any] = {
            "type": "Public",
            "address": "127.0.0.1",
            "port": port,
            "tcpQueue": 50 + number % 2,
            "certificateRefs": [{"name": f"mx{number}"}],
            "defaultPolicy": {
                "banner": f"version {number}",
                "maxMessageSize": _SIZE + number,
                "tls": {"mode": self.mode},
                "maxConnectionsPerHost": 500,
            },
            "recipients": [
                {"match": [f"no@v{number}.example"], "action": "Reject", "text": f"not in {number}"},
                {"match": [f"v{number}.example"]},
            ],
        }
        return resource("Listener", "public", **(spec | changes))

    def gateway(self) -> dict[str, Any]:
        """Its MailGateway."""
        return resource("MailGateway", "default", hostname=f"mx{self.number}.commit.example")

    def chain(self, pair: bytes | None = None) -> list[dict[str, Any]]:
        """Its Certificate and the Secret behind it, made by somebody else; `pair`: with this in it instead."""
        key, mark, rest = (pair or self.pair).partition(b"-----BEGIN CERTIFICATE-----")
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"pair{self.number}"},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.key": key.decode(), "tls.crt": (mark + rest).decode()},
        }
        return [secret, resource("Certificate", f"mx{self.number}", secretRef={"name": f"pair{self.number}"})]

    def manifests(self, port: int) -> list[dict[str, Any]]:
        """All of it."""
        return [self.gateway(), self.listener(port), *self.chain()]


class MixtureError(AssertionError):
    """A connection saw what no valid version says."""


@dataclass
class Client:
    """One connection, step by step."""

    port: int
    versions: dict[int, Version]
    number: int = 0
    """Of the version that the greeting told."""

    def __enter__(self) -> Self:
        self._smtp = smtplib.SMTP(timeout=60, local_hostname="client.example")
        self._smtp._host = "mx.commit.example"  # pyright: ignore[reportAttributeAccessIssue] - for SNI
        code, greeting = self._smtp.connect("127.0.0.1", self.port)
        self._expect(code == 220, greeting)
        host, _, banner = greeting.decode().partition(" ")
        self.number = int(banner.removeprefix("version "))
        self._expect(self.number in self.versions, f"{self.number} was never valid")
        self._expect(host == f"mx{self.number}.commit.example", host)
        return self

    def __exit__(self, *_: object) -> None:
        self._smtp.close()

    def rest(self) -> None:
        """Everything after the greeting. Raises MixtureError."""
        version = self.versions[self.number]
        self._hello()
        self._expect(self._smtp.has_extn("starttls") == (version.mode != "No"), "the offer of STARTTLS")
        if version.mode != "No":
            self._secure(version)
        self._expect(self._smtp.mail("a@b.example")[0] == 250, "MAIL")
        self._expect(self._smtp.rcpt(f"u@v{self.number}.example")[0] == 250, "its own recipient")
        refused = self._smtp.rcpt(f"no@v{self.number}.example")
        self._expect(refused == (550, f"5.7.1 not in {self.number}".encode()), refused)
        for other in list(self.versions):
            if other != self.number and abs(other - self.number) <= 2:
                self._expect(self._smtp.rcpt(f"u@v{other}.example")[0] == 550, f"a recipient of {other}")
        self._expect(self._smtp.quit()[0] == 221, "QUIT")

    def _hello(self) -> None:
        self._expect(self._smtp.ehlo()[0] == 250, "EHLO")
        self._expect(self._smtp.esmtp_features.get("size") == str(_SIZE + self.number), "SIZE")

    def _secure(self, version: Version) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if version.mode == "Required":
            self._expect(self._smtp.mail("a@b.example")[0] == 530, "MAIL before TLS")
        self._expect(self._smtp.starttls(context=context)[0] == 220, "STARTTLS")
        socket = self._smtp.sock
        assert isinstance(socket, ssl.SSLSocket)
        shown = hashlib.sha256(socket.getpeercert(binary_form=True) or b"").hexdigest()
        self._expect(shown == version.fingerprint, "the certificate")
        self._hello()
        self._expect(not self._smtp.has_extn("starttls"), "no second STARTTLS")

    def _expect(self, holds: bool, what: object) -> None:
        if not holds:
            raise MixtureError(f"version {self.number}: {what}")


@dataclass
class Seen:
    """What clients under load have seen."""

    connections: dict[int, int] = field(default_factory=dict[int, int])
    """How many, by version."""
    failures: list[str] = field(default_factory=list[str])
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def load(port: int, versions: dict[int, Version], clients: int) -> Generator[Seen]:
    """So many clients, who connect again and again until the end of the `with`."""
    seen, stop = Seen(), threading.Event()

    def run() -> None:
        while not stop.is_set():
            number, problem = 0, ""
            try:
                with Client(port, versions) as client:
                    number = client.number
                    client.rest()
            except (MixtureError, OSError, smtplib.SMTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
            with seen.lock:
                seen.connections[number] = seen.connections.get(number, 0) + 1
                if problem:
                    seen.failures.append(problem)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    with contextlib.ExitStack() as ends:
        for thread in threads:
            thread.start()
            ends.callback(thread.join)
        ends.callback(stop.set)
        yield seen


def make(number: int, mode: str, authority: Authority) -> Version:
    """A version with a key of its own."""
    return Version(number, mode, authority.issue(f"mx{number}.commit.example"))
