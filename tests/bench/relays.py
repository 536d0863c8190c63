"""The two relays that are compared: a Letterlock member and a Postfix, with the same certificates and next hop."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.sink import Sink
from tests.harness.certificates import Authority
from tests.harness.member import Member
from tests.harness.postfix import Postfix
from tests.harness.relay import LISTENER_NAME, Relay

DOMAIN: Final = "bench.example"
# More than the load generator ever opens: the bench measures work, not limits.
_MANY: Final = 100_000


@dataclass(frozen=True)
class Certificates:
    """What both relays and the sink use: ECDSA P-256, one CA."""

    authority: Authority
    listener: bytes
    sink: bytes

    @classmethod
    def make(cls) -> "Certificates":
        """New ones."""
        authority = Authority()
        return cls(authority, authority.issue(LISTENER_NAME), authority.issue(DOMAIN))


@contextmanager
def letterlock(
    folder: Path, certificates: Certificates, sink: Sink, *, messages_per_connection: int, workers: int = 0
) -> Generator[tuple[Member, Relay]]:
    """A member that relays to the sink over verified TLS, one worker per processor unless said otherwise."""
    with Member(folder, workers=workers) as member:
        relay = Relay(
            member,
            sink.port,
            certificates.listener,
            [certificates.authority.pem],
            domain=DOMAIN,
            destination={"messages_per_connection": messages_per_connection},
            policy={
                "max_connections_per_host": _MANY,
                "max_messages_per_connection": _MANY,
            },
        )
        expected = relay.publish()
        member.wait_ready()
        member.wait_running(expected)
        yield member, relay


@contextmanager
def postfix(certificates: Certificates, sink: Sink, *, reuse: bool) -> Generator[Postfix]:
    """A Postfix that does the same. `reuse`: TLS connections to the sink are kept for further messages."""
    relay = Postfix.sending(
        sink.port,
        name=LISTENER_NAME,
        tls="secure",
        ca=certificates.authority.pem,
        match=[DOMAIN],
        settings={
            "smtp_tls_connection_reuse": "yes" if reuse else "no",
            # As many deliveries at a time as the other side may have.
            "default_destination_concurrency_limit": "100",
            "initial_destination_concurrency": "20",
            "smtp_tls_loglevel": "0",
            "smtpd_tls_loglevel": "0",
        },
    )
    relay.use_certificate(certificates.listener, "may")
    with relay:
        yield relay
