"""On what terms a connection is made: all of the running set that it rests on, so that a change shows.

Made by `session` when it connects, and compared before each further message: a connection made on other terms
than today's is not used again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ssl import SSLContext
from typing import Self

from letterlock_api.destinationcontrol import TLSVersion
from letterlock_api.snapshot import Destination
from letterlock_gateway.deliver.lookups import AddressFamily
from letterlock_gateway.running import RunningSet
from letterlock_gateway.tls import contexts
from letterlock_gateway.tls.trust import TrustStore


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait; RFC 5321 section 4.5.3.2, and for connecting and the handshake what is usual."""

    connect: float = 30.0
    greeting: float = 300.0
    hello: float = 300.0
    start_tls: float = 120.0
    handshake: float = 60.0
    mail: float = 300.0
    recipient: float = 300.0
    data: float = 120.0
    block: float = 180.0
    end: float = 600.0


@dataclass(frozen=True)
class Terms:
    """What a connection for one domain rests on."""

    domain: str
    policy: Destination
    trust: TrustStore
    certificate: bytes | None
    """Ours, presented when asked for: key and chain, PEM."""
    hostname: str
    """Ours, for EHLO."""
    member: str
    resolvers: tuple[str, ...]
    family: AddressFamily

    @classmethod
    def of(cls, running: RunningSet, domain: str) -> Self:
        """The terms for `domain` under this set."""
        policy = running.destination_for(domain)
        restricted = policy.ca_lists or policy.restricts_ca_lists
        return cls(
            domain=domain,
            policy=policy,
            trust=running.trust_for(policy.ca_lists if restricted else None),
            certificate=running.client_certificate,
            hostname=running.hostname,
            member=running.member,
            resolvers=tuple(running.snapshot.delivery.resolvers),
            family=running.snapshot.delivery.address_family,
        )

    def context(self) -> SSLContext:
        """The context for outgoing TLS on these terms."""
        return _client_context(self.policy.min_version, self.policy.ciphers, self.certificate)


def _build(min_version: TLSVersion, ciphers: str | None, certificate: bytes | None) -> SSLContext:
    return contexts.client_context(min_version=min_version, ciphers=ciphers, certificate=certificate)


# A context with a certificate takes milliseconds to build, and most connections need the same.
_client_context: Callable[[TLSVersion, str | None, bytes | None], SSLContext] = lru_cache(maxsize=64)(_build)
