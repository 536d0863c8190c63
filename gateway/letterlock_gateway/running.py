"""A snapshot made ready to run: TLS contexts built and tried, destinations indexed, trust at hand.

Built by the supervisor first, as the last and hardest check of a mounted set, and then by every worker.
Nothing in it changes afterwards: sessions and deliveries keep the set they began with, new ones take the
new set.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Self

from letterlock_api import queries
from letterlock_api.credentials import Credentials
from letterlock_api.credentials import decode as decode_credentials
from letterlock_api.destinationcontrol import TLSVersion
from letterlock_api.snapshot import (
    Destination,
    Drain,
    ReceptionPolicy,
    ServedCertificate,
    Snapshot,
    SnapshotDirectory,
    SnapshotListener,
    member_hostname,
)
from letterlock_gateway.directory.settings import Settings, server
from letterlock_gateway.mount import MountedSet, MountRefused
from letterlock_gateway.tls import contexts, trust

_DEFAULT_DESTINATION: Final = Destination(resource="", domains=["*"])
# Where a set is refused, the reason comes from one of these: a pair that does not match, a cipher list
# without any cipher (ssl.SSLError), a file that is no PEM (ValueError).
_UNUSABLE: Final = (contexts.BadCertificate, ssl.SSLError, ValueError)


@dataclass(frozen=True)
class RunningListener:
    """A listener with its TLS contexts."""

    listener: SnapshotListener
    contexts: Mapping[str, ssl.SSLContext | None]
    """Per policy name; None: no TLS under this policy. Selects among the listener's certificates by SNI."""


@dataclass(frozen=True)
class RunningSet:
    """All that sessions and deliveries need to know."""

    snapshot: Snapshot
    hash: str
    member: str
    hostname: str
    """Name of this member on the wire."""
    listeners: Mapping[str, RunningListener]
    """By name."""
    client_certificate: bytes | None
    """Key and chain (PEM) to present as a client; None: none."""
    directories: Mapping[str, Settings]
    """By name."""
    credentials: Mapping[str, Credentials]
    """For next hops that want a sign-in, by file name."""
    _destinations: Mapping[str, Destination]
    _files: Mapping[str, bytes]

    @classmethod
    def build(cls, mounted: MountedSet, member: str) -> Self:
        """Make `mounted` ready to run on `member`. Raises MountRefused if any part of it cannot be used."""
        builder = _Builder(mounted, member)
        running = cls(
            snapshot=mounted.snapshot,
            hash=mounted.hash,
            member=member,
            hostname=member_hostname(mounted.snapshot.hostname, member),
            listeners={one.name: builder.listener(one) for one in mounted.snapshot.listeners},
            client_certificate=builder.client_certificate(),
            directories={one.name: builder.directory(one) for one in mounted.snapshot.directories},
            credentials=builder.credentials(),
            _destinations=by_domain(mounted.snapshot),
            _files=mounted.files,
        )
        builder.try_destinations(running.client_certificate)
        builder.try_trust()
        builder.try_queries(running.directories)
        builder.try_management()
        return running

    def destination_for(self, domain: str) -> Destination:
        """The policy for `domain` (lower case, A-labels): exact, else the longest suffix, else `*`."""
        return most_specific(self._destinations, domain) or _DEFAULT_DESTINATION

    def with_destination(self, policy: Destination) -> Self:
        """The same set with this one policy for every domain: for looking at what another would do."""
        return replace(self, _destinations={"*": policy})

    @property
    def drain(self) -> Drain | None:
        """The order to go; None: this member stays."""
        return next((one for one in self.snapshot.drains if one.member == self.member), None)

    @property
    def admitted(self) -> bool:
        """Whether this member may take mail in: one that the operator has not seen running yet may not."""
        return self.snapshot.admits is None or self.member in self.snapshot.admits

    def trust_for(self, names: Sequence[str] | None) -> trust.TrustStore:
        """What peers are verified against: the named lists that are enabled; None: all global ones."""
        return _trust_store(_list_files(self.snapshot, names, self._files))

    def demo_uses(self) -> list[str]:
        """The services that run with the demo certificate, for people: `listener public`, `outgoing mail`."""
        uses = [
            f"listener {name}"
            for name, one in self.listeners.items()
            if any(certificate.demo for certificate in one.listener.certificates)
            and any(one.contexts.values())
        ]
        management = self.snapshot.management
        if management is not None and management.certificate.demo:
            uses.append("HTTPS management")
        outgoing = self.snapshot.delivery.certificate
        return [*uses, "outgoing mail"] if outgoing is not None and outgoing.demo else uses


def by_domain(snapshot: Snapshot) -> dict[str, Destination]:
    """Destinations by each of their entries."""
    return {domain: one for one in snapshot.destinations for domain in one.domains}


def most_specific[Value](destinations: Mapping[str, Value], domain: str) -> Value | None:
    """What holds for `domain` (lower case, A-labels): exact, else the longest suffix, else `*`."""
    found = destinations.get(domain)
    rest = domain
    while found is None and (dot := rest.find(".")) >= 0:
        found = destinations.get(rest[dot:])
        rest = rest[dot + 1 :]
    return found if found is not None else destinations.get("*")


class _Builder:
    """Builds the parts of one set; policies of equal TLS settings share one context."""

    def __init__(self, mounted: MountedSet, member: str) -> None:
        self._mounted = mounted
        self._member = member
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}

    def listener(self, listener: SnapshotListener) -> RunningListener:
        built: dict[str, ssl.SSLContext | None] = {}
        for policy in listener.policies:
            if policy.tls_mode == "No" and listener.protocol != "SMTPS":
                built[policy.name] = None
                continue
            try:
                built[policy.name] = self._server_context(listener.certificates, policy)
            except _UNUSABLE as error:
                raise self._refused(f"listener {listener.name}, policy {policy.name}: {error}") from error
        return RunningListener(listener=listener, contexts=built)

    def client_certificate(self) -> bytes | None:
        certificate = self._mounted.snapshot.delivery.certificate
        try:
            return None if certificate is None else self._pair(certificate)
        except ValueError as error:
            raise self._refused(f"outgoing mail: {error}") from error

    def credentials(self) -> dict[str, Credentials]:
        found: dict[str, Credentials] = {}
        for destination in self._mounted.snapshot.destinations:
            for file in {route.auth_file for route in destination.routes if route.auth_file}:
                try:
                    found[file] = decode_credentials(self._file(file))
                except ValueError as error:
                    raise self._refused(f"destination {destination.resource}: {error}") from error
        return found

    def try_destinations(self, certificate: bytes | None) -> None:
        """Build (and drop) a context for each kind of client connection, so that none fails later."""
        kinds: dict[tuple[TLSVersion, str | None], Destination] = {
            (one.min_version, one.ciphers): one for one in self._mounted.snapshot.destinations
        }
        for (min_version, ciphers), destination in kinds.items():
            try:
                contexts.client_context(min_version=min_version, ciphers=ciphers, certificate=certificate)
            except _UNUSABLE as error:
                name = destination.resource or "default"
                raise self._refused(f"destination {name}: {error}") from error

    def directory(self, one: SnapshotDirectory) -> Settings:
        """Its settings; the certificate is tried."""
        try:
            bind = decode_credentials(self._file(one.bind_file)) if one.bind_file else None
            certificate = self._pair(one.certificate) if one.certificate is not None else None
            contexts.client_context(min_version="TLSv1.2", ciphers=None, certificate=certificate)
            return Settings(
                name=one.name,
                servers=tuple(server(text, one.tls) for text in one.servers),
                tls=one.tls,
                base=one.base_dn,
                bind=bind.username if bind is not None else "",
                password=bind.password if bind is not None else "",
                certificate=certificate,
                trust=_trust_store(_list_files(self._mounted.snapshot, None, self._mounted.files)),
            )
        except _UNUSABLE as error:
            raise self._refused(f"directory {one.name}: {error}") from error

    def try_queries(self, known: Mapping[str, Settings]) -> None:
        """A listener that cannot ask must not listen: it would take everybody, or nobody."""
        for listener in self._mounted.snapshot.listeners:
            query = listener.query
            if query is None:
                continue
            problem = queries.problem(query.filter)
            if query.directory not in known:
                problem = f"there is no directory {query.directory}"
            if problem:
                raise self._refused(f"listener {listener.name}: {problem}")

    def try_management(self) -> None:
        """The pages' own process serves them; here the pair is tried."""
        management = self._mounted.snapshot.management
        if management is None:
            return
        try:
            contexts.server_context(
                self._pair(management.certificate),
                min_version="TLSv1.2",
                ciphers=None,
                client_certificates="None",
                client_ca=b"",
            )
        except _UNUSABLE as error:
            raise self._refused(f"HTTPS management: {error}") from error

    def try_trust(self) -> None:
        for name, trusted in self._mounted.snapshot.trust.items():
            try:
                _trust_store((self._file(trusted.file),))
            except _UNUSABLE as error:
                raise self._refused(f"CA list {name}: {error}") from error

    def _server_context(
        self, certificates: Sequence[ServedCertificate], policy: ReceptionPolicy
    ) -> ssl.SSLContext:
        if not certificates:
            raise ValueError("TLS is offered, but there is no certificate")
        authorities: tuple[bytes, ...] = ()
        if policy.client_certificate != "None":
            lists = policy.client_ca_lists or None
            authorities = _list_files(self._mounted.snapshot, lists, self._mounted.files)
        pairs = tuple(self._pair(one) for one in certificates)
        key = (pairs, policy.min_version, policy.ciphers, policy.client_certificate, authorities)
        if key not in self._contexts:
            made = [self._context(pair, policy, b"\n".join(authorities)) for pair in pairs]
            by_name: dict[str, ssl.SSLContext] = {}
            for served, context in zip(certificates, made, strict=True):
                for name in served.names:
                    by_name.setdefault(name, context)  # the earlier certificate wins
            self._contexts[key] = contexts.with_sni(made[0], by_name) if len(made) > 1 else made[0]
        return self._contexts[key]

    def _context(self, pair: bytes, policy: ReceptionPolicy, authorities: bytes) -> ssl.SSLContext:
        return contexts.server_context(
            pair,
            min_version=policy.min_version,
            ciphers=policy.ciphers,
            client_certificates=policy.client_certificate,
            client_ca=authorities,
        )

    def _pair(self, certificate: ServedCertificate) -> bytes:
        name = certificate.file_for(self._member)
        if name is None:
            # Never without: what should be served encrypted would go in clear text.
            label = certificate.name or "demo"
            raise ValueError(f"certificate {label} has none for member {self._member} (yet)")
        return self._file(name)

    def _file(self, name: str) -> bytes:
        try:
            return self._mounted.files[name]
        except KeyError:
            raise ValueError(f"file {name} is used, but not among the snapshot's files") from None

    def _refused(self, reason: str) -> MountRefused:
        return MountRefused(reason, self._mounted.hash)


def _list_files(
    snapshot: Snapshot, names: Sequence[str] | None, files: Mapping[str, bytes]
) -> tuple[bytes, ...]:
    """PEM texts of the named lists, as far as they are enabled; None: of all global ones."""
    if names is None:
        chosen = [name for name, one in snapshot.trust.items() if one.is_global]
    else:
        chosen = [name for name in names if name in snapshot.trust]
    return tuple(files[snapshot.trust[name].file] for name in sorted(chosen))


@lru_cache(maxsize=64)
def _trust_store(pems: tuple[bytes, ...]) -> trust.TrustStore:
    """Mozilla's roots take tens of milliseconds to read; most snapshots bring the same lists again."""
    return trust.TrustStore.from_pem(*pems)
