"""DestinationControls, one at a time: each domain's policy with inheritance applied (D1-D8, D13, D14).

Who owns which domain is told by `controls`, which calls this.
Exact beats the longest `.suffix` beats `*`; what an entry leaves out comes from the next less specific one, field by
field. A policy never gets weaker than its entry says: what cannot be honoured is held back, not sent otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
from letterlock_operator.decide import ciphers, domains
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted

VERIFYING: Final = frozenset({"RequiredVerify", "RequiredVerifyHostedDomains"})


@dataclass(frozen=True)
class Judged:
    """A DestinationControl, judged."""

    accepted: Verdict
    owned: tuple[str, ...]
    """The domains that it speaks for, normalised."""
    destinations: tuple[Destination, ...] = ()
    encoded: tuple[str, ...] = ()
    """Each of them as it stands in `snapshot.json`."""
    digest: str = ""
    """Of all that its deliveries rest on, CA lists included."""
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Key files with the credentials that its routes, inherited ones included, need."""


@dataclass(frozen=True)
class Context:
    """What all entries of a gateway are resolved against."""

    owners: Mapping[str, str]
    """Domain → resource."""
    resources: Mapping[str, DestinationControl]
    lists: Mapping[str, Authorities]
    files: Mapping[str, bytes | Finding]
    """Credentials by the name of their Secret."""

    def chain(self, name: str, domain: str) -> list[DestinationControlSpec]:
        """The entry `name`, and those that `domain` inherits from, the more specific first."""
        owners, resources = self.owners, self.resources
        above = [owners[one] for one in domains.less_specific(domain) if one in owners]
        return [resources[name].spec, *(resources[one].spec for one in above)]


def judge(name: str, context: Context) -> Judged:
    """One DestinationControl."""
    finding: Finding | None = None
    owned: dict[str, None] = {}
    for domain in context.resources[name].spec.domains:
        try:
            owner = context.owners[key := domains.normalised(domain)]
        except ValueError as error:
            finding = finding or (Reason.INVALID, str(error))
            continue
        if owner == name:
            owned[key] = None
        else:
            text = f"{domain} belongs to DestinationControl {owner}, which is older: remove it from one of the two"
            finding = finding or (Reason.DOMAIN_CONFLICT, text)
    chains = {domain: context.chain(name, domain) for domain in owned}
    made = _destinations(name, chains, context)
    encoded = tuple(one.encoded() for one in made)
    return Judged(
        accepted(finding or _acceptance(name, chains.values(), context)),
        tuple(owned),
        made,
        encoded,
        _digest(made, encoded, context.lists),
        _key_files(made, context.files),
    )


def _digest(made: Sequence[Destination], encoded: Sequence[str], lists: Mapping[str, Authorities]) -> str:
    parts = list(encoded)
    for one in made:
        names = (
            one.ca_lists if one.restricts_ca_lists else [name for name in lists if _is_global(lists[name])]
        )
        parts += [
            f"{name}={trust.file}" for name in sorted(names) if (trust := lists[name].trust) is not None
        ]
    return content_hash("\n".join(parts).encode())


def _is_global(one: Authorities) -> bool:
    return one.trust is not None and one.trust.is_global


def _acceptance(
    name: str, chains: Iterable[Sequence[DestinationControlSpec]], context: Context
) -> Finding | None:
    spec = context.resources[name].spec
    missing = [one.name for one in spec.tls.ca_list_refs if one.name not in context.lists]
    if missing:
        return (
            Reason.CA_LIST_NOT_FOUND,
            f"there is no CAList {missing[0]}: until there is, it vouches for nobody",
        )
    said = [[spec], *chains]
    for chain in said:
        if problem := ciphers.problem(_cipher_list(chain)):
            return Reason.INVALID, f"{problem}; until that is corrected TLS is 1.3 or nothing here"
    for route in (route for chain in said for route in _routes(chain)):
        found = context.files[route.auth.secret_ref.name] if route.auth else b""
        if not isinstance(found, bytes):
            return found
    return None


def _destinations(
    name: str, chains: Mapping[str, Sequence[DestinationControlSpec]], context: Context
) -> tuple[Destination, ...]:
    """One destination for all domains of the resource that inherit the same, in the order of their domains."""
    by_chain: dict[tuple[int, ...], list[str]] = {}
    for domain, chain in chains.items():
        by_chain.setdefault(tuple(map(id, chain)), []).append(domain)
    if len(by_chain) == 1:  # nearly always: nothing to compare
        [some] = by_chain.values()
        return (_resolved(name, chains[some[0]], context, sorted(some)),)
    grouped: dict[str, tuple[Destination, list[str]]] = {}
    for some in by_chain.values():
        made = _resolved(name, chains[some[0]], context, [])
        grouped.setdefault(made.encoded(), (made, []))[1].extend(some)
    found = [one.model_copy(update={"domains": sorted(some)}) for one, some in grouped.values()]
    return tuple(sorted(found, key=lambda one: one.domains))


def _resolved(
    name: str, chain: Sequence[DestinationControlSpec], context: Context, owned: list[str]
) -> Destination:
    """What holds for the domains `owned`: the first of `chain` that says something wins, field by field."""
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
        domains=owned,
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


def _file_of(route: Route, context: Context) -> bytes | Finding | None:
    return context.files[route.auth.secret_ref.name] if route.auth else None


def _next_hop(route: Route, context: Context) -> NextHop:
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
