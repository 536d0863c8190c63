"""On what terms a connection is made: all of the running set that it rests on, so that a change shows.

Made by `session` when it connects, and compared before each further message: a connection made on other terms
than today's is not used again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ssl import SSLContext
from typing import Final, Self

from letterlock_api.credentials import Credentials
from letterlock_api.destinationcontrol import TLSVersion
from letterlock_api.snapshot import Destination
from letterlock_gateway.deliver.lookups import AddressFamily
from letterlock_gateway.deliver.nexthops import Ourselves
from letterlock_gateway.running import RunningSet
from letterlock_gateway.tls import contexts
from letterlock_gateway.tls.trust import TrustStore

_SMTP: Final = 25


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
    ourselves: Ourselves
    """What a loop is noticed by."""
    credentials: Mapping[str, Credentials]
    """For routes that want a sign-in, by the name of their file."""

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
            ourselves=_ourselves(running),
            credentials={
                route.auth_file: running.credentials[route.auth_file]
                for route in policy.routes
                if route.auth_file is not None
            },
        )

    def context(self) -> SSLContext:
        """The context for outgoing TLS on these terms."""
        return _client_context(self.policy.min_version, self.policy.ciphers, self.certificate)


def _ourselves(running: RunningSet) -> Ourselves:
    # Port 25 as written: in pods the Service maps it, and nobody else can know where else MX records lead here.
    open_to_all = [one for one in running.snapshot.listeners if one.port == _SMTP and one.protocol == "SMTP"]
    return Ourselves(
        template=running.snapshot.hostname or running.member,
        member=running.member,
        listening=tuple(sorted({one.address for one in open_to_all})),
    )


def _build(min_version: TLSVersion, ciphers: str | None, certificate: bytes | None) -> SSLContext:
    return contexts.client_context(min_version=min_version, ciphers=ciphers, certificate=certificate)


# A context with a certificate takes milliseconds to build, and most connections need the same.
_client_context: Callable[[TLSVersion, str | None, bytes | None], SSLContext] = lru_cache(maxsize=64)(_build)
