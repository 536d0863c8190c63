"""Certificates: which are to be made, which can be used, and what is to be said of them (C1, C2, C9, C11)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from letterlock_api.certificate import Certificate, CertificateSpec, Level
from letterlock_api.conditions import Reason, Type
from letterlock_api.mailgateway import MailGatewaySpec
from letterlock_api.references import Reference
from letterlock_api.snapshot import ServedCertificate, content_hash, tls_file_name
from letterlock_operator.decide import chains
from letterlock_operator.decide.chains import Chain, Refused
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted, false, true, unknown
from letterlock_operator.plan import Issue
from letterlock_operator.world import Keep, Unreadable, World

_KEY, _CERTIFICATE, _REQUEST, _INPUTS = "tls.key", "tls.crt", "tls.csr", "inputs"
_DEFAULT_SIZE: Final = {"RSA": 2048, "ECDSA": 256}
_PLACEHOLDERS: Final = ("{member}", "{ordinal}")
_WEAK_RSA: Final = 2048
_SOON: Final = timedelta(days=15)


@dataclass(frozen=True)
class Judged:
    """A Certificate, judged."""

    accepted: Verdict
    ready: Verdict
    level: Level
    chains: Mapping[str, Chain] = field(default_factory=dict[str, Chain])
    """What can be served, by member; `""` at Cluster level."""
    issues: tuple[Issue, ...] = ()
    requests: Mapping[str, str] = field(default_factory=dict[str, str])
    """CSR by member, PEM."""
    renewal: datetime | None = None
    warnings: tuple[Verdict, ...] = ()

    def served(self, name: str, *, demo: bool = False) -> ServedCertificate | None:
        """The certificate as members use it; None: there is nothing to serve."""
        if not self.chains:
            return None
        files = {member: tls_file_name(chain.pem) for member, chain in self.chains.items()}
        names = sorted({name for chain in self.chains.values() for name in chain.names})
        if "" in files:
            return ServedCertificate(name=name, file=files[""], demo=demo, names=names)
        return ServedCertificate(name=name, files=files, demo=demo, names=names)

    def files(self) -> dict[str, bytes]:
        """The files that `served` names."""
        return {tls_file_name(chain.pem): chain.pem for chain in self.chains.values()}


def judge_all(world: World, now: datetime) -> dict[str, Judged]:
    """Every Certificate of the namespace."""
    return {name: _judge(name, one, world, now) for name, one in world.certificates.items()}


def members_of(world: World, gateway: str) -> list[str]:
    """The names of the gateway's members, by its wanted replicas."""
    replicas = world.gateways[gateway].spec.replicas if gateway in world.gateways else 0
    return [f"{gateway}-{ordinal}" for ordinal in range(replicas)]


def demo(world: World, gateway: str, now: datetime) -> Judged:
    """The demo certificate of a gateway: made at first use, unique to it (C8)."""
    template = world.gateways[gateway].spec.hostname or ""
    name = template if template and not _has_placeholder(template) else f"{gateway}.demo.letterlock.invalid"
    spec = CertificateSpec.model_validate(
        {
            "level": "Cluster",
            "subject": {"organizationalUnit": "Letterlock demo certificate"},
            "dnsNames": [name],
            "privateKey": {"algorithm": "ECDSA"},
        }
    )
    return _made_here(
        spec, f"MailGateway/{gateway}", {"": f"letterlock-demo-{gateway}"}, "Cluster", world, now
    )


def level_of(spec: CertificateSpec) -> Level:
    """The level in force: Machine when made here, Cluster when brought along, unless set."""
    if spec.level is not None:
        return spec.level
    return "Cluster" if spec.secret_ref is not None or spec.pkcs12 is not None else "Machine"


def _judge(name: str, certificate: Certificate, world: World, now: datetime) -> Judged:
    spec = certificate.spec
    level = level_of(spec)
    for rule in _ACCEPTANCE:
        finding = rule(spec, level, world)
        if finding is not None:
            return Judged(accepted(finding), false(Type.READY, finding), level)
    if spec.secret_ref is not None:
        return _brought(spec.secret_ref.name, level, world, now)
    members = [""] if level == "Cluster" else members_of(world, spec.gateway_ref.name)
    secrets = {one: f"letterlock-cert-{name}" + (f"-{one}" if one else "") for one in members}
    return _made_here(spec, f"Certificate/{name}", secrets, level, world, now)


def _gateway_missing(spec: CertificateSpec, _: Level, world: World) -> Finding | None:
    if spec.gateway_ref.name in world.gateways:
        return None
    return Reason.GATEWAY_NOT_FOUND, f"there is no MailGateway {spec.gateway_ref.name} in this namespace"


def _not_supported(spec: CertificateSpec, level: Level, _: World) -> Finding | None:
    present = {
        "pkcs12": spec.pkcs12 is not None,
        "signerName": spec.signer_name is not None,
        "signed": bool(spec.signed),
        "export": spec.export is not None,
        "renewal.mode Prepare": spec.renewal.mode == "Prepare",
        "secretRef at Machine level": spec.secret_ref is not None and level == "Machine",
    }
    named = [what for what, there in present.items() if there]
    if not named:
        return None
    return Reason.NOT_SUPPORTED, f"{named[0]} is not available in this version: leave it out"


def _no_name(spec: CertificateSpec, _: Level, __: World) -> Finding | None:
    if spec.secret_ref is not None or spec.subject.common_name or spec.dns_names:
        return None
    return Reason.INVALID, "set subject.commonName or dnsNames: a certificate needs a name"


def _not_cluster_capable(spec: CertificateSpec, level: Level, _: World) -> Finding | None:
    """Judged on what the user gave, before the common name is added (C9)."""
    wildcard = (spec.subject.common_name or "").startswith("*.")
    if level == "Machine" or spec.secret_ref is not None or spec.dns_names or wildcard:
        return None
    return (
        Reason.NOT_CLUSTER_CAPABLE,
        "only a wildcard certificate or one with dnsNames can serve all members: add dnsNames, or set level: Machine",
    )


def _placeholder_at_cluster(spec: CertificateSpec, level: Level, _: World) -> Finding | None:
    if level == "Cluster" and any(map(_has_placeholder, [*spec.dns_names, *_subject(spec).values()])):
        return (
            Reason.INVALID,
            "{member} and {ordinal} stand for one member: use them with level: Machine only",
        )
    return None


_ACCEPTANCE: Final = (
    _gateway_missing,  # make sure that somebody uses it
    _not_supported,  # make sure that nothing is ignored silently
    _no_name,  # make sure that there is something to certify
    _not_cluster_capable,  # make sure that one certificate may serve all members
    _placeholder_at_cluster,  # make sure that placeholders can be replaced
)


def _brought(secret: str, level: Level, world: World, now: datetime) -> Judged:
    """A `kubernetes.io/tls` Secret that someone else keeps (C11)."""
    found = world.secrets.get(secret)
    if isinstance(found, Unreadable):
        pending = (Reason.PENDING, f"Secret {secret} cannot be read: {found.problem}")
        return Judged(accepted(None), unknown(Type.READY, pending), level)
    finding: Finding | None = None
    if found is None:
        finding = (Reason.SECRET_NOT_FOUND, f"there is no Secret {secret}")
    elif missing := [key for key in (_KEY, _CERTIFICATE) if not found.data.get(key)]:
        finding = (Reason.SECRET_NOT_FOUND, f"Secret {secret} has no {missing[0]}")
    if finding is not None or found is None:
        return Judged(accepted(None), false(Type.READY, finding or (Reason.SECRET_NOT_FOUND, "")), level)
    try:
        chain = chains.read(found.data[_KEY], found.data[_CERTIFICATE])
    except Refused as refused:
        return Judged(
            accepted(None), false(Type.READY, (refused.reason, f"Secret {secret}: {refused.message}")), level
        )
    wildcard = (chain.common_name or "").startswith("*.")
    if not chain.names and not wildcard:
        finding = (
            Reason.NOT_CLUSTER_CAPABLE,
            f"the certificate in Secret {secret} has no subject alternative name",
        )
        return Judged(accepted(finding), false(Type.READY, finding), level)
    return _dated(Judged(accepted(None), true(Type.READY, Reason.ISSUED), level, {"": chain}), now)


def _made_here(
    spec: CertificateSpec, owner: str, secrets: Mapping[str, str], level: Level, world: World, now: datetime
) -> Judged:
    """Self-signed, with a key that we keep."""
    found: dict[str, Chain] = {}
    requests: dict[str, str] = {}
    issues: list[Issue] = []
    problems: list[Verdict] = []
    renewals: list[datetime] = []
    for member, secret in secrets.items():
        order = _order(spec, owner, secret, member)
        present = world.secrets.get(secret)
        match present:
            case None:
                issues.append(order)
                continue
            case Unreadable():
                text = f"Secret {secret} cannot be read: {present.problem}"
                problems.append(unknown(Type.READY, (Reason.PENDING, text)))
                continue
            case Keep() if not present.ours:
                text = (
                    f"Secret {secret} exists and is not ours: rename the Certificate, or remove that Secret"
                )
                problems.append(false(Type.READY, (Reason.NAME_TAKEN, text)))
                continue
            case Keep():
                pass
        try:
            chain = chains.read(present.data.get(_KEY, b""), present.data.get(_CERTIFICATE, b""))
        except Refused:
            issues.append(_replacing(order, present, keep_key=False))
            continue
        found[member] = chain
        requests[member] = present.data.get(_REQUEST, b"").decode("ascii", "replace")
        renewal = _renewal_time(spec, chain)
        changed = present.data.get(_INPUTS, b"").decode("ascii", "replace") != order.inputs
        same_key = chain.key == (order.algorithm, order.size)
        if changed or (renewal is not None and renewal <= now):
            keep = same_key and (changed or not spec.renewal.rotate_key)
            issues.append(_replacing(order, present, keep_key=keep))
        elif renewal is not None:
            renewals.append(renewal)
    ready = true(Type.READY, Reason.ISSUED)
    if problems:
        ready = problems[0]
    elif len(found) < len(secrets) or any(issue.inputs != "" and _stale(issue, world) for issue in issues):
        ready = false(Type.READY, (Reason.ISSUING, "its key and certificate are being made"))
    elif not secrets:
        ready = false(Type.READY, (Reason.NO_MEMBERS, "the gateway has no members to make it for"))
    judged = Judged(accepted(None), ready, level, found, tuple(issues), requests, min(renewals, default=None))
    return _dated(judged, now)


def _stale(issue: Issue, world: World) -> bool:
    """Whether what the Secret holds was made from another spec than today's."""
    present = world.secrets.get(issue.secret)
    return (
        isinstance(present, Keep)
        and present.data.get(_INPUTS, b"").decode("ascii", "replace") != issue.inputs
    )


def _dated(judged: Judged, now: datetime) -> Judged:
    """`judged`, with the warnings and refusals that its dates and keys call for."""
    warnings: list[Verdict] = []
    ready = judged.ready
    for chain in judged.chains.values():
        end = chain.leaf.not_valid_after_utc
        if end <= now and ready.holds:
            ready = false(Type.READY, (Reason.EXPIRED, f"it expired on {end:%Y-%m-%d}: replace it"))
        elif end - now < _SOON and not judged.issues:
            warnings.append(
                true(Type.EXPIRING_SOON, Reason.EXPIRED, f"it expires on {end:%Y-%m-%d}: replace it")
            )
        algorithm, size = chain.key
        if algorithm == "RSA" and size < _WEAK_RSA:
            warnings.append(
                true(Type.WEAK_KEY, Reason.WEAK_KEY, f"RSA {size} can be broken: use 2048 bits or more")
            )
    unique = {one.type: one for one in warnings}
    return Judged(
        judged.accepted,
        ready,
        judged.level,
        judged.chains,
        judged.issues,
        judged.requests,
        judged.renewal,
        tuple(unique.values()),
    )


def _order(spec: CertificateSpec, owner: str, secret: str, member: str) -> Issue:
    algorithm = spec.private_key.algorithm
    size = spec.private_key.size or _DEFAULT_SIZE[algorithm]
    subject = {key: _filled(value, member) for key, value in _subject(spec).items()}
    names = tuple(_filled(name, member) for name in spec.dns_names)
    made_from = [sorted(subject.items()), names, spec.days, algorithm, size]
    return Issue(
        secret=secret,
        owner=owner,
        subject=subject,
        dns_names=names,
        days=spec.days,
        algorithm=algorithm,
        size=size,
        inputs=content_hash(json.dumps(made_from).encode()),
    )


def _replacing(order: Issue, present: Keep, *, keep_key: bool) -> Issue:
    return Issue(
        secret=order.secret,
        owner=order.owner,
        subject=order.subject,
        dns_names=order.dns_names,
        days=order.days,
        algorithm=order.algorithm,
        size=order.size,
        inputs=order.inputs,
        replaces=present.resource_version,
        keep_key=keep_key,
    )


def _renewal_time(spec: CertificateSpec, chain: Chain) -> datetime | None:
    if spec.renewal.mode == "Never":
        return None
    start, end = chain.leaf.not_valid_before_utc, chain.leaf.not_valid_after_utc
    ahead = timedelta(days=spec.renewal.before_days) if spec.renewal.before_days else (end - start) / 3
    # Never at once after issuing, whatever beforeDays says: that would renew without end.
    return max(end - ahead, start + (end - start) / 10)


def _subject(spec: CertificateSpec) -> dict[str, str]:
    return {key: value for key, value in spec.subject.model_dump().items() if value}


def _has_placeholder(text: str) -> bool:
    return any(one in text for one in _PLACEHOLDERS)


def _filled(text: str, member: str) -> str:
    return text.replace("{member}", member).replace("{ordinal}", member.rpartition("-")[2])


def users(name: str, world: World) -> Sequence[str]:
    """What uses the Certificate, as Kind/name."""
    listeners = [
        f"Listener/{one.name}"
        for one in world.listeners.values()
        if any(reference.name == name for reference in one.spec.certificate_refs)
    ]
    gateways = [
        f"MailGateway/{one.name}"
        for one in world.gateways.values()
        if any(reference is not None and reference.name == name for reference in _gateway_uses(one.spec))
    ]
    return sorted(gateways + listeners)


def _gateway_uses(spec: MailGatewaySpec) -> list[Reference | None]:
    https = spec.management.https
    return [
        spec.delivery.certificate_ref,
        https.certificate_ref if https else None,
        *(profile.certificate_ref for profile in spec.ldap),
    ]
