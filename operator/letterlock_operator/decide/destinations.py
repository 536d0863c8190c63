"""DestinationControls: who owns which domain, and each domain's policy with inheritance applied (D1-D8, D13, D14).

Exact beats the longest `.suffix` beats `*`; what an entry leaves out comes from the next less specific one, field by
field. A policy never gets weaker than its entry says: what cannot be honoured is held back, not sent otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from letterlock_api.base import parse_duration
from letterlock_api.conditions import Reason
from letterlock_api.credentials import file_name
from letterlock_api.destinationcontrol import (
    DestinationControl,
    DestinationControlSpec,
    Route,
    TLSVersion,
    default_min_version,
)
from letterlock_api.references import Reference
from letterlock_api.snapshot import Destination, NextHop, ResolvedTLSMode, content_hash
from letterlock_operator.decide import ciphers, credentials, domains
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted
from letterlock_operator.world import World

VERIFYING: Final = frozenset({"RequiredVerify", "RequiredVerifyHostedDomains"})
_EARLY: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Judged:
    """A DestinationControl, judged."""

    accepted: Verdict
    owned: tuple[str, ...]
    """The domains that it speaks for, normalised."""
    destinations: tuple[Destination, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Key files with the credentials that its routes, inherited ones included, need."""


@dataclass(frozen=True)
class _Context:
    """What all entries of a gateway are resolved against."""

    owners: Mapping[str, str]
    """Domain → resource."""
    specs: Mapping[str, DestinationControlSpec]
    lists: Mapping[str, Authorities]
    files: Mapping[str, bytes | Finding]
    """Credentials by the name of their Secret."""

    def chain(self, name: str, domain: str) -> list[DestinationControlSpec]:
        """The entry `name`, and those that `domain` inherits from, the more specific first."""
        above = [self.owners[one] for one in domains.less_specific(domain) if one in self.owners]
        return [self.specs[name], *(self.specs[one] for one in above)]


def judge_all(
    world: World,
    gateway: str,
    lists: Mapping[str, Authorities],
    refused: Mapping[str, Finding] | None = None,
) -> tuple[dict[str, Judged], list[Destination]]:
    """Every DestinationControl of the gateway, and all destinations of its snapshot (one for `*` always among them).

    `refused`: Secrets with credentials that cannot be handed to the members, and why.
    """
    mine = {name: one for name, one in world.destinations.items() if one.spec.gateway_ref.name == gateway}
    owners: dict[str, str] = {}
    findings: dict[str, Finding] = {}
    for name in sorted(mine, key=lambda one: _age(mine[one])):
        for domain in mine[name].spec.domains:
            try:
                owner = owners.setdefault(domains.normalised(domain), name)
            except ValueError as error:
                findings.setdefault(name, (Reason.INVALID, str(error)))
                continue
            if owner != name:
                text = f"{domain} belongs to DestinationControl {owner}, which is older: remove it from one of the two"
                findings.setdefault(name, (Reason.DOMAIN_CONFLICT, text))
    specs = {name: one.spec for name, one in mine.items()}
    signing = {one.auth.secret_ref.name for spec in specs.values() for one in spec.routes if one.auth}
    files = {secret: credentials.file(world, gateway, secret) for secret in sorted(signing)}
    files |= {secret: why for secret, why in (refused or {}).items() if secret in files}
    context = _Context(owners, specs, lists, files)
    judged: dict[str, Judged] = {}
    result: list[Destination] = []
    speaking: dict[str, list[str]] = {}
    for domain, owner in owners.items():
        speaking.setdefault(owner, []).append(domain)
    for name in mine:
        owned = tuple(speaking.get(name, ()))
        finding = findings.get(name) or _acceptance(name, owned, context)
        made = _destinations(name, owned, context)
        judged[name] = Judged(accepted(finding), owned, made, _key_files(made, files))
        result.extend(made)
    if "*" not in owners:
        result.append(Destination(resource="", domains=["*"]))
    result.sort(key=lambda one: (one.resource, one.domains))
    return judged, result


def digest(judged: Judged, lists: Mapping[str, Authorities]) -> str:
    """Digest of all that the resource's deliveries rest on, CA lists included."""
    parts = [one.model_dump_json() for one in judged.destinations]
    for one in judged.destinations:
        names = (
            one.ca_lists if one.restricts_ca_lists else [name for name in lists if _is_global(lists[name])]
        )
        parts += [
            f"{name}={trust.file}" for name in sorted(names) if (trust := lists[name].trust) is not None
        ]
    return content_hash("\n".join(parts).encode())


def _is_global(one: Authorities) -> bool:
    return one.trust is not None and one.trust.is_global


def _age(one: DestinationControl) -> tuple[datetime, str]:
    return one.metadata.creation_timestamp or _EARLY, one.name


def _acceptance(name: str, owned: Sequence[str], context: _Context) -> Finding | None:
    missing = [one.name for one in context.specs[name].tls.ca_list_refs if one.name not in context.lists]
    if missing:
        return (
            Reason.CA_LIST_NOT_FOUND,
            f"there is no CAList {missing[0]}: until there is, it vouches for nobody",
        )
    chains = [[context.specs[name]], *(context.chain(name, domain) for domain in owned)]
    for chain in chains:
        if problem := ciphers.problem(_cipher_list(chain)):
            return Reason.INVALID, f"{problem}; until that is corrected TLS is 1.3 or nothing here"
    for route in (route for chain in chains for route in _routes(chain)):
        found = context.files[route.auth.secret_ref.name] if route.auth else b""
        if not isinstance(found, bytes):
            return found
    return None


def _destinations(name: str, owned: Sequence[str], context: _Context) -> tuple[Destination, ...]:
    """One destination for all domains of the resource that inherit the same."""
    grouped: dict[str, Destination] = {}
    for domain in owned:
        made = _resolved(name, context.chain(name, domain), context)
        key = made.model_dump_json()
        before = grouped.get(key, made)
        grouped[key] = before.model_copy(update={"domains": sorted([*before.domains, domain])})
    return tuple(grouped[key] for key in sorted(grouped))


def _resolved(name: str, chain: Sequence[DestinationControlSpec], context: _Context) -> Destination:
    """The first of `chain` that says something wins, field by field."""
    explicit = next((one.tls.names for one in chain if one.tls.names), list[str]())
    references = next((one.tls.ca_list_refs for one in chain if one.tls.ca_list_refs), list[Reference]())
    routes = _routes(chain)
    mode = _mode(chain, routes)
    held = any(route.auth and not isinstance(_file_of(route, context), bytes) for route in routes)
    lists = context.lists
    ca_lists = (
        []
        if held
        else [one.name for one in references if one.name in lists and lists[one.name].trust is not None]
    )
    limits = [one.limits for one in chain]
    min_version: TLSVersion | None = next(
        (one.tls.min_version for one in chain if one.tls.min_version is not None), None
    )
    cipher_list = _cipher_list(chain)
    if ciphers.problem(cipher_list):
        # It is about TLS 1.2 and below; without those nothing is weaker than it says.
        cipher_list, min_version = None, "TLSv1.3"
    rate = next((one.recipients for one in limits if one.recipients), None)
    return Destination(
        resource=name,
        domains=[],
        # Held back: verified against nobody, so deferred with that reason, and never sent without signing in.
        tls_mode=mode,
        names=sorted({_name(one) for one in explicit}),
        ca_lists=sorted(ca_lists),
        restricts_ca_lists=bool(references) or held,
        min_version=min_version or default_min_version(mode),
        min_version_set=min_version is not None,
        ciphers=cipher_list,
        routes=[_next_hop(route, context) for route in routes],
        connections=next((one.connections for one in limits if one.connections), 500),
        messages_per_connection=next(
            (one.messages_per_connection for one in limits if one.messages_per_connection), 50
        ),
        recipients_count=rate.count if rate else None,
        recipients_period=parse_duration(rate.period).total_seconds() if rate else 3600.0,
    )


def _cipher_list(chain: Sequence[DestinationControlSpec]) -> str | None:
    return next((one.tls.ciphers for one in chain if one.tls.ciphers), None)


def _routes(chain: Sequence[DestinationControlSpec]) -> Sequence[Route]:
    """The routes of the first entry that says how mail is routed; none: by MX."""
    found = next((one for one in chain if one.routes or one.routing in ("MX", "Routes")), None)
    return found.routes if found is not None and found.routing != "MX" else []


def _mode(chain: Sequence[DestinationControlSpec], routes: Sequence[Route]) -> ResolvedTLSMode:
    """The first mode that is said; where a route signs in, at least one that insists on verified TLS.

    The API refuses AUTH beside a mode that does not verify, but routes and mode may come from different entries.
    A mode that verifies keeps its names; for the others it is the host of the route that gets the password.
    """
    said: Any = next((one.tls.mode for one in chain if one.tls.mode != "Default"), "Preferred")
    if not any(route.auth for route in routes) or said in VERIFYING:
        return said
    return "RequiredVerify" if said == "PreferredVerify" else "RequiredVerifyHostedDomains"


def _file_of(route: Route, context: _Context) -> bytes | Finding | None:
    return context.files[route.auth.secret_ref.name] if route.auth else None


def _next_hop(route: Route, context: _Context) -> NextHop:
    found = _file_of(route, context)
    return NextHop(
        host=_name(route.host),
        port=route.port,
        priority=route.priority,
        implicit_tls=route.implicit_tls,
        auth_file=file_name(found) if isinstance(found, bytes) else None,
    )


def _key_files(made: Sequence[Destination], files: Mapping[str, bytes | Finding]) -> dict[str, bytes]:
    usable = {file_name(one): one for one in files.values() if isinstance(one, bytes)}
    named = {route.auth_file for one in made for route in one.routes}
    return {name: content for name, content in usable.items() if name in named}


def _name(name: str) -> str:
    try:
        return domains.normalised(name)
    except ValueError:
        return name.lower()
