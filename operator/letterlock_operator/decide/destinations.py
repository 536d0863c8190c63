"""DestinationControls: who owns which domain, and each domain's policy with inheritance applied (D1-D8, D13, D14).

Exact beats the longest `.suffix` beats `*`; what an entry leaves out comes from the next less specific one, field by
field. A policy never gets weaker than its entry says: what cannot be honoured is held back, not sent otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from letterlock_api.base import parse_duration
from letterlock_api.conditions import Reason
from letterlock_api.destinationcontrol import DestinationControl, DestinationControlSpec, TLSVersion
from letterlock_api.references import Reference
from letterlock_api.snapshot import Destination, NextHop, content_hash
from letterlock_operator.decide import domains
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted
from letterlock_operator.world import World

VERIFYING: Final = frozenset({"RequiredVerify", "RequiredVerifyHostedDomains"})
_VERIFIED_MODES: Final = VERIFYING | {"PreferredVerify"}
_EARLY: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Judged:
    """A DestinationControl, judged."""

    accepted: Verdict
    owned: tuple[str, ...]
    """The domains that it speaks for, normalised."""
    destinations: tuple[Destination, ...] = ()


def judge_all(
    world: World, gateway: str, lists: Mapping[str, Authorities]
) -> tuple[dict[str, Judged], list[Destination]]:
    """Every DestinationControl of the gateway, and all destinations of its snapshot (one for `*` always among them)."""
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
    judged: dict[str, Judged] = {}
    result: list[Destination] = []
    for name, one in mine.items():
        owned = tuple(domain for domain, owner in owners.items() if owner == name)
        finding = findings.get(name) or _acceptance(one.spec, lists)
        made = _destinations(name, owned, owners, mine, lists)
        judged[name] = Judged(accepted(finding), owned, made)
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


def _acceptance(spec: DestinationControlSpec, lists: Mapping[str, Authorities]) -> Finding | None:
    missing = [one.name for one in spec.tls.ca_list_refs if one.name not in lists]
    if missing:
        return (
            Reason.CA_LIST_NOT_FOUND,
            f"there is no CAList {missing[0]}: until there is, it vouches for nobody",
        )
    if any(route.auth is not None for route in spec.routes):
        return (
            Reason.NOT_SUPPORTED,
            "AUTH at a route is not available in this version: mail for these domains is held back",
        )
    return None


def _destinations(
    name: str,
    owned: Sequence[str],
    owners: Mapping[str, str],
    controls: Mapping[str, DestinationControl],
    lists: Mapping[str, Authorities],
) -> tuple[Destination, ...]:
    """One destination for all domains of the resource that inherit the same."""
    grouped: dict[str, Destination] = {}
    for domain in owned:
        above = [controls[owners[one]].spec for one in domains.less_specific(domain) if one in owners]
        made = _resolved(name, [controls[name].spec, *above], lists)
        key = made.model_dump_json()
        before = grouped.get(key, made)
        grouped[key] = before.model_copy(update={"domains": sorted([*before.domains, domain])})
    return tuple(grouped[key] for key in sorted(grouped))


def _resolved(
    name: str, chain: Sequence[DestinationControlSpec], lists: Mapping[str, Authorities]
) -> Destination:
    """The first of `chain` that says something wins, field by field."""
    mode: Any = next((one.tls.mode for one in chain if one.tls.mode != "Default"), "Preferred")
    explicit = next((one.tls.names for one in chain if one.tls.names), list[str]())
    references = next((one.tls.ca_list_refs for one in chain if one.tls.ca_list_refs), list[Reference]())
    routing = next((one for one in chain if one.routes or one.routing in ("MX", "Routes")), None)
    routes = routing.routes if routing is not None and routing.routing != "MX" else []
    held = any(route.auth is not None for route in routes)
    ca_lists = (
        []
        if held
        else [one.name for one in references if one.name in lists and lists[one.name].trust is not None]
    )
    limits = [one.limits for one in chain]
    rate = next((one.recipients for one in limits if one.recipients), None)
    return Destination(
        resource=name,
        domains=[],
        # Held back: verified against nobody, so deferred with that reason, and never sent without signing in.
        tls_mode="RequiredVerify" if held else mode,
        names=sorted({_name(one) for one in explicit}),
        ca_lists=sorted(ca_lists),
        restricts_ca_lists=bool(references) or held,
        min_version=_min_version(chain, mode),
        ciphers=next((one.tls.ciphers for one in chain if one.tls.ciphers), None),
        routes=[
            NextHop(host=_name(one.host), port=one.port, priority=one.priority, implicit_tls=one.implicit_tls)
            for one in routes
        ],
        connections=next((one.connections for one in limits if one.connections), 500),
        messages_per_connection=next(
            (one.messages_per_connection for one in limits if one.messages_per_connection), 50
        ),
        recipients_count=rate.count if rate else None,
        recipients_period=parse_duration(rate.period).total_seconds() if rate else 3600.0,
    )


def _min_version(chain: Sequence[DestinationControlSpec], mode: str) -> TLSVersion:
    """What the chain says, else TLS 1.2 where certificates are verified, and anything where they are not."""
    for one in chain:
        if one.tls.min_version is not None:
            return one.tls.min_version
    return "TLSv1.2" if mode in _VERIFIED_MODES else "TLSv1"


def _name(name: str) -> str:
    try:
        return domains.normalised(name)
    except ValueError:
        return name.lower()
