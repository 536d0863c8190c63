"""The relays that are compared: a Letterlock member and Postfixes, with the same certificates and next hop."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trustme import KeyType

from letterlock_api.snapshot import RetrySchedule
from tests.bench.sink import Sink
from tests.harness.certificates import Authority
from tests.harness.member import Member
from tests.harness.postfix import Postfix
from tests.harness.relay import LISTENER_NAME, Relay

DOMAIN: Final = "bench.example"
# More than the load generator ever opens: the bench measures work, not limits.
_MANY: Final = 100_000
# Connections that wait to be accepted, per worker: 500 clients come at the same moment.
_QUEUE: Final = 1024
# As Debian installs it: the client remembers sessions. Its service for TLS makes every other choice.
_INSTALLED: Final = {"smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache"}
_TUNED: Final = {
    **_INSTALLED,
    "smtpd_tls_session_cache_database": "btree:${data_directory}/smtpd_scache",
    "smtp_tls_connection_reuse": "yes",
    # As many deliveries at a time as the other side may have.
    "default_destination_concurrency_limit": "100",
    "initial_destination_concurrency": "20",
}


@dataclass(frozen=True)
class Certificates:
    """What all relays and the sink use: one CA."""

    authority: Authority
    listener: bytes
    sink: bytes

    @classmethod
    def make(cls, key_type: KeyType = KeyType.ECDSA) -> "Certificates":
        """New ones; the listener's key is of `key_type`, all others ECDSA P-256."""
        authority = Authority()
        return cls(authority, authority.issue(LISTENER_NAME, key_type=key_type), authority.issue(DOMAIN))


@dataclass(frozen=True)
class Subject:
    """A relay that runs."""

    name: str
    port: int
    pid: int
    """All its processes are this one and those below it."""


@contextmanager
def letterlock(
    folder: Path,
    certificates: Certificates,
    sink: Sink,
    *,
    messages_per_connection: int = 50,
    workers: int = 0,
    listener: dict[str, Any] | None = None,
    retry: RetrySchedule | None = None,
) -> Generator[tuple[Member, Relay]]:
    """A member that relays to the sink over verified TLS, one worker per processor unless said otherwise."""
    with Member(folder, workers=workers) as member:
        relay = Relay(
            member,
            sink.port,
            certificates.listener,
            [certificates.authority.pem],
            domain=DOMAIN,
            retry=retry or RetrySchedule(),
            destination={"messages_per_connection": messages_per_connection},
            policy={
                "max_connections_per_host": _MANY,
                "max_messages_per_connection": _MANY,
                "max_message_size": 100 << 20,
            },
            listener={"tcp_queue": _QUEUE, **(listener or {})},
        )
        expected = relay.publish()
        member.wait_ready()
        member.wait_running(expected)
        yield member, relay


@contextmanager
def member(folder: Path, certificates: Certificates, sink: Sink) -> Generator[Subject]:
    """Letterlock as it is installed."""
    with letterlock(folder, certificates, sink) as (made, relay):
        if made.process is None:
            raise RuntimeError("the member does not run")
        yield Subject("Letterlock", relay.port, made.process.pid)


@contextmanager
def postfix(certificates: Certificates, sink: Sink, *, tuned: bool) -> Generator[Subject]:
    """A Postfix that does the same, as it is installed or tuned: connections and sessions are used again."""
    relay = Postfix.sending(
        sink.port,
        name=LISTENER_NAME,
        tls="secure",
        ca=certificates.authority.pem,
        match=[DOMAIN],
        settings={
            **(_TUNED if tuned else _INSTALLED),
            "message_size_limit": str(100 << 20),
            "smtp_tls_loglevel": "0",
            "smtpd_tls_loglevel": "0",
        },
    )
    relay.use_certificate(certificates.listener, "may")
    with relay:
        yield Subject("Postfix, tuned" if tuned else "Postfix, as installed", relay.port, relay.pid)
