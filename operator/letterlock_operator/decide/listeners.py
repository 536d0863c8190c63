"""Listeners: whether they can be opened, with which certificates, and what to warn of (L1-L7, L9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from letterlock_api import receptions
from letterlock_api.calist import SYSTEM_LIST
from letterlock_api.conditions import Reason, Type
from letterlock_api.listener import Listener, ListenerSpec
from letterlock_api.snapshot import (
    AccessGroup,
    ReceptionPolicy,
    RecipientQuery,
    RecipientRule,
    ServedCertificate,
    SnapshotListener,
)
from letterlock_operator import names
from letterlock_operator.decide import ciphers, directories, domains, naming, openness, policies
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.remembering import Recall
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted, false, true
from letterlock_operator.world import World

_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104 - compared, not bound
_EARLY: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """What listeners of one gateway refer to, judged before them."""

    lists: Mapping[str, Authorities]
    judged: Mapping[str, JudgedCertificate]
    demo: JudgedCertificate | None
    asked: directories.Judged


@dataclass(frozen=True)
class Judged:
    """A Listener, judged."""

    accepted: Verdict
    resolved: Verdict
    warnings: tuple[Verdict, ...] = ()
    listener: SnapshotListener | None = None
    """What members shall run; None: nothing."""
    demo: bool = False
    """Whether it needs the gateway's demo certificate."""
    kept: bool = False
    """Whether a certificate of the previous snapshot is kept for want of a usable one."""


def needs_demo(spec: ListenerSpec) -> bool:
    """Whether the listener runs with the demo certificate (C8, L4)."""
    return not spec.certificate_refs and _offers_tls(spec, policies.merge(spec))


def judge_again(
    listener: Listener,
    world: World,
    known: Known,
    previous: SnapshotListener | None,
    heard: Recall[Judged],
) -> Judged:
    """`judge`, or what `heard` knows of it where nothing of all that has changed."""
    spec = listener.spec
    inputs = (
        spec,
        age(listener),
        f"Service/{names.service(listener.name)}" in world.foreign,
        _rivals(listener, world),
        known.lists,
        tuple(known.judged.get(one.name) for one in spec.certificate_refs),
        known.demo,
        known.asked,
        previous,
    )
    return heard.of(listener.name, inputs, lambda: (judge(listener, world, known, previous), None))


def judge(
    listener: Listener,
    world: World,
    known: Known,
    previous: SnapshotListener | None,
) -> Judged:
    """One listener. `previous`: what the snapshot in place has for it."""
    spec = listener.spec
    query = directories.query(spec, known.asked)
    merged = policies.merge(spec)
    rows = policies.groups(spec)
    for finding in (
        naming.service_taken(world, names.service(listener.name), "Listener"),
        _port_conflict(listener, world),
        _unknown_policy(spec),
        _unreadable_sender(spec),
        _no_domain(spec),
        _open_relay(spec, merged, rows),
        _source_hidden(spec) if spec.type == "Private" else None,
        query if isinstance(query, tuple) else None,
        _missing_lists(merged, known.lists),
        _unusable_ciphers(merged),
    ):
        if finding is not None:
            # The last good state keeps running (L9).
            return Judged(accepted(finding), false(Type.RESOLVED_REFS, finding), listener=previous)
    served, resolved, kept = _certificates(spec, known, previous)
    warnings = _warnings(spec, merged, rows)
    tls = _offers_tls(spec, merged)
    if tls and not served:
        return Judged(accepted(None), resolved, warnings, previous, demo=needs_demo(spec))
    made = SnapshotListener(
        name=listener.name,
        type=spec.type,
        protocol=spec.protocol,
        address="" if (spec.address or "") in _WILDCARDS else spec.address or "",
        port=spec.port,
        certificates=served if tls else [],
        default_domain=domains.normalised(spec.default_domain) if spec.default_domain else None,
        domain_map={domains.normalised(one.from_): domains.normalised(one.to) for one in spec.domain_map},
        max_concurrency=spec.max_concurrency,
        tcp_queue=spec.tcp_queue,
        policies=merged,
        groups=rows,
        recipients=[
            RecipientRule(match=list(one.match), accept=one.action == "Accept", text=one.text or "")
            for one in spec.recipients
        ],
        proxy_from=list(spec.proxy_protocol.from_) if spec.proxy_protocol else [],
        query=query if isinstance(query, RecipientQuery) else None,
    )
    return Judged(accepted(None), resolved, warnings, made, demo=needs_demo(spec), kept=kept)


def _offers_tls(spec: ListenerSpec, merged: list[ReceptionPolicy]) -> bool:
    return spec.protocol == "SMTPS" or any(one.tls_mode != "No" for one in merged)


def _port_conflict(listener: Listener, world: World) -> Finding | None:
    """Two listeners of one gateway on one port: the older keeps it."""
    mine = listener.spec
    for two, (since, other) in _rivals(listener, world):
        one = mine.address or ""
        same = one in _WILDCARDS or two in _WILDCARDS or one == two
        if same and (since, other) < age(listener):
            return (
                Reason.PORT_CONFLICT,
                f"port {mine.port} belongs to Listener {other}, which is older: use another",
            )
    return None


def _rivals(listener: Listener, world: World) -> tuple[tuple[str, tuple[datetime, str]], ...]:
    """The others that want its port: their addresses, and how old they are."""
    wanting = world.ports[listener.spec.gateway_ref.name, listener.spec.port]
    return tuple((one.spec.address or "", age(one)) for one in wanting if one.name != listener.name)


def age(one: Listener) -> tuple[datetime, str]:
    """What decides who was there first."""
    return one.metadata.creation_timestamp or _EARLY, one.name


def _unknown_policy(spec: ListenerSpec) -> Finding | None:
    known = {one.name for one in spec.mail_flow_policies}
    for row in spec.sender_groups:
        if row.policy not in known:
            there = ", ".join(sorted(known)) or "none"
            return (
                Reason.UNKNOWN_POLICY,
                f"sender group {row.name} uses policy {row.policy}; there is {there}",
            )
    return None


def _unreadable_sender(spec: ListenerSpec) -> Finding | None:
    for row in spec.sender_groups:
        for sender in row.senders:
            if openness.unreadable(sender):
                return (
                    Reason.INVALID,
                    f"sender group {row.name}: {sender} is no address, CIDR, range or partial IPv4 address: correct it",
                )
    return None


def _no_domain(spec: ListenerSpec) -> Finding | None:
    given = [spec.default_domain or "", *(name for one in spec.domain_map for name in (one.from_, one.to))]
    problem = domains.unusable(given)
    return (Reason.INVALID, f"{problem}: correct it in defaultDomain or domainMap") if problem else None


def _open_relay(spec: ListenerSpec, merged: list[ReceptionPolicy], rows: list[AccessGroup]) -> Finding | None:
    return _relay_for_all(spec, merged, rows) if spec.type == "Public" else None


def _relay_for_all(
    spec: ListenerSpec, merged: list[ReceptionPolicy], rows: list[AccessGroup]
) -> Finding | None:
    by_name = {one.name: one for one in merged}
    relaying: list[str] = []
    for row in rows:
        policy = by_name.get(row.policy)
        if policy is None or policy.behavior != "Relay":
            continue  # an unknown one is said by _unknown_policy
        if _by_certificate(spec, policy):
            continue
        relaying += row.senders  # the groups together: two halves of the world are everybody, too
        if openness.everybody(relaying):
            return (
                Reason.OPEN_RELAY,
                f"sender group {row.name} lets everybody relay: list its senders, or require certificates by name",
            )
    return None


def _requires_tls_of_strangers(merged: list[ReceptionPolicy], rows: list[AccessGroup]) -> bool:
    """Whether the row that takes everybody demands TLS; partners above it may be asked for anything."""
    # There is such a row: `policies.groups` ends with one.
    theirs = next(row.policy for row in rows if openness.everybody(row.senders))
    policy = receptions.reachable(merged, rows).get(theirs)
    return policy is not None and policy.tls_mode == "Required"


def _by_certificate(spec: ListenerSpec, policy: ReceptionPolicy) -> bool:
    """Whether nobody gets past the policy without a certificate that was chosen by name, fingerprint or CA."""
    encrypted = spec.protocol == "SMTPS" or policy.tls_mode == "Required"
    # The system list holds the CAs of the web, which sign for anybody.
    own_lists = bool(policy.client_ca_lists) and SYSTEM_LIST not in policy.client_ca_lists
    chosen = own_lists or bool(policy.client_names) or bool(policy.client_fingerprints)
    return encrypted and policy.client_certificate == "Required" and chosen


def _avoidable_certificate(
    spec: ListenerSpec, merged: list[ReceptionPolicy], rows: list[AccessGroup]
) -> Finding | None:
    """Whether clients without the certificate that is required of them only have to leave TLS out.

    That is what the words say: it is asked for within TLS, and TLS is left to the client. Who wrote `Required` may well
    have meant more.
    """
    for policy in receptions.reachable(merged, rows).values():
        encrypted = spec.protocol == "SMTPS" or policy.tls_mode == "Required"
        if policy.client_certificate == "Required" and not encrypted:
            text = (
                f"policy {policy.name} requires a client certificate, but takes clients in clear text without one:"
                " set tls.mode to Required, or clientCertificate to Optional"
            )
            return Reason.CLIENT_CERTIFICATE_AVOIDABLE, text
    return None


def _source_hidden(spec: ListenerSpec) -> Finding | None:
    """Whether clients come with a node's address instead of their own, so that host access means nothing."""
    if spec.service.external_traffic_policy != "Cluster" or spec.proxy_protocol is not None:
        return None
    text = (
        "externalTrafficPolicy Cluster hides the clients' addresses behind those of nodes, so that senderGroups and"
        " limits per host take them all for one: use Local, or proxyProtocol"
    )
    return Reason.SOURCE_ADDRESS_HIDDEN, text


def _missing_lists(merged: list[ReceptionPolicy], lists: Mapping[str, Authorities]) -> Finding | None:
    for policy in merged:
        for name in policy.client_ca_lists:
            if name not in lists or lists[name].trust is None:
                return (
                    Reason.CA_LIST_NOT_FOUND,
                    f"CAList {name} is not there, or switched off: client certificates need it",
                )
    return None


def _unusable_ciphers(merged: list[ReceptionPolicy]) -> Finding | None:
    for policy in merged:
        if problem := ciphers.problem(policy.ciphers):
            return Reason.INVALID, f"policy {policy.name}: {problem}"
    return None


def _certificates(
    spec: ListenerSpec, known: Known, previous: SnapshotListener | None
) -> tuple[list[ServedCertificate], Verdict, bool]:
    """What to serve, in order. For one that is missing or not ready the last good one stays (C10)."""
    if not spec.certificate_refs:
        if not needs_demo(spec):
            return [], true(Type.RESOLVED_REFS, Reason.RESOLVED_REFS), False
        served = known.demo.served("", demo=True) if known.demo is not None else None
        if served is None:
            waiting = (Reason.CERTIFICATE_NOT_READY, "the demo certificate is being made")
            return [], false(Type.RESOLVED_REFS, waiting), False
        return [served], true(Type.RESOLVED_REFS, Reason.RESOLVED_REFS), False
    before = {one.name: one for one in previous.certificates} if previous is not None else {}
    result: list[ServedCertificate] = []
    finding: Finding | None = None
    kept = False
    for reference in spec.certificate_refs:
        found = known.judged.get(reference.name)
        served = found.served(reference.name) if found is not None and found.accepted.holds else None
        if found is None:
            text = f"there is no Certificate {reference.name}: create it, or take it out of certificateRefs"
            finding = finding or (Reason.CERTIFICATE_NOT_FOUND, text)
        elif served is None or not found.ready.holds:
            text = f"Certificate {reference.name} is not ready: {found.ready.message or found.ready.reason}"
            finding = finding or (Reason.CERTIFICATE_NOT_READY, text)
        if served is None and reference.name in before:
            served, kept = before[reference.name], True
        if served is not None:
            result.append(served)
    resolved = (
        false(Type.RESOLVED_REFS, finding) if finding else true(Type.RESOLVED_REFS, Reason.RESOLVED_REFS)
    )
    # The default certificate cannot be another one than was asked for: clients would see the wrong name.
    complete = result and (result[0].name == spec.certificate_refs[0].name)
    return (result if complete else []), resolved, kept


def _warnings(
    spec: ListenerSpec, merged: list[ReceptionPolicy], rows: list[AccessGroup]
) -> tuple[Verdict, ...]:
    found: list[Verdict] = []
    if needs_demo(spec):
        text = "it serves the demo certificate, which nobody can verify: set certificateRefs"
        found.append(true(Type.DEMO_CERTIFICATE, Reason.DEMO_CERTIFICATE, text))
    relay = _relay_for_all(spec, merged, rows)
    if relay is not None:
        found.append(true(Type.OPEN_RELAY, *relay))
    hidden = _source_hidden(spec)
    if hidden is not None and spec.service.type != "ClusterIP":  # of which the policy says nothing
        found.append(true(Type.SOURCE_ADDRESS_HIDDEN, *hidden))
    if spec.type == "Public" and spec.protocol == "SMTP" and _requires_tls_of_strangers(merged, rows):
        text = "a public listener that requires TLS of everybody loses mail of those who have none (RFC 3207 section 4)"
        found.append(true(Type.TLS_REQUIRED_OF_ALL, Reason.TLS_REQUIRED_OF_ALL, text))
    avoidable = _avoidable_certificate(spec, merged, rows)
    if avoidable is not None:
        found.append(true(Type.CLIENT_CERTIFICATE_AVOIDABLE, *avoidable))
    return tuple(found)
