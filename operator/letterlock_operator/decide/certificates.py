"""Certificates: which are to be made, which can be used, and what is to be said of them (C1-C5, C7-C11).

How one key and certificate comes about is decided by `making` (made here, self-signed or uploaded), `signing` (by a
Kubernetes signer) and `bringing` (by Secret or PKCS#12 file); here it is put together for the whole resource.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from letterlock_api.certificate import Certificate, CertificateSpec, CertificateStatus, Level
from letterlock_api.conditions import Reason, Type
from letterlock_api.snapshot import ServedCertificate, content_hash, tls_file_name
from letterlock_operator.decide import (
    bringing,
    covering,
    domains,
    exporting,
    making,
    placeholders,
    signing,
)
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.chains import Chain
from letterlock_operator.decide.remembering import Recall
from letterlock_operator.decide.slots import Filled, Slot
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted, false, true
from letterlock_operator.plan import Issue, Request, Retire, SecretOrder
from letterlock_operator.world import World

_DEFAULT_SIZE: Final = {"RSA": 2048, "ECDSA": 256}
# ub-common-name: letters there, but whoever writes certificates here counts bytes.
_LONGEST_COMMON_NAME: Final = 64
# Nobody renews these for us: said while there is time to act, but not while their own tools would still do it
# (cert-manager renews a third of the lifetime ahead).
_SOON: Final = timedelta(days=15)
_SOON_SHARE: Final = 5


@dataclass(frozen=True)
class Judged:
    """A Certificate, judged."""

    accepted: Verdict
    ready: Verdict
    level: Level
    slots: Mapping[str, Filled] = field(default_factory=dict[str, Filled])
    """By member; `""` at Cluster level."""
    warnings: tuple[Verdict, ...] = ()
    exports: tuple[SecretOrder, ...] = ()
    retired: tuple[Retire, ...] = ()
    earlier: Mapping[str, str] = field(default_factory=dict[str, str])
    """By member: the file that is in use where there is no pair now (Machine level)."""
    unfit: bool = False
    """Whether there is no room for it among what members mount: `ready` says so, and what was served before stays."""

    @property
    def chains(self) -> Mapping[str, Chain]:
        """What can be served, by member."""
        return {member: one.chain for member, one in self.slots.items() if one.chain is not None}

    @property
    def issues(self) -> tuple[SecretOrder, ...]:
        """Keys and certificates to make or to put in place."""
        return tuple(order for one in self.slots.values() for order in one.orders)

    @property
    def asks(self) -> tuple[Request, ...]:
        """Requests to Kubernetes signers."""
        return tuple(order for one in self.slots.values() for order in one.asks)

    @property
    def renewal(self) -> datetime | None:
        """When renewal starts."""
        return min((one.renewal for one in self.slots.values() if one.renewal is not None), default=None)

    def wakes(self, now: datetime) -> list[datetime]:
        """When to decide again even if nothing happens."""
        return [moment for moment in self._moments() if moment > now]

    def holds_until(self, now: datetime) -> datetime | None:
        """Until when it is the same if nothing happens; `now`: at this moment only. None: for good."""
        at_rest = self.ready.holds and not (self.issues or self.asks or self.exports or self.retired)
        # A certificate that begins later is one of a clock that was ahead: what that means changes with ours.
        begun = all(one.chain is None or one.chain.start <= now for one in self.slots.values())
        if not at_rest or not begun:
            return now
        return min((moment for moment in self._moments() if moment >= now), default=None)

    def _moments(self) -> list[datetime]:
        found = [moment for one in self.slots.values() for moment in one.wakes]
        if self.renewal is not None:
            found.append(self.renewal)
        for chain in self.chains.values():
            found += [chain.end, chain.end - soon(chain)]
            found += [one.not_valid_after_utc - _SOON for one in chain.intermediates]
        return found

    def served(self, name: str, *, demo: bool = False) -> ServedCertificate | None:
        """The certificate as members use it; None: there is nothing to serve."""
        if not self.chains or self.unfit:
            return None
        files = {member: file for member, file in self.earlier.items() if member in self.slots}
        files |= {member: tls_file_name(chain.pem) for member, chain in self.chains.items()}
        # Clients ask for a name whether it stands as an alternative one or, of old, as the common name alone.
        found = (name for chain in self.chains.values() for name in chain.names or [chain.common_name or ""])
        names = sorted({name.lower() for name in found if name})
        if "" in files:
            return ServedCertificate(name=name, file=files[""], demo=demo, names=names)
        return ServedCertificate(name=name, files=files, demo=demo, names=names)

    def files(self) -> dict[str, bytes]:
        """The files that `served` names."""
        if self.unfit:
            return {}
        return {tls_file_name(chain.pem): chain.pem for chain in self.chains.values()}


def judge_all(
    world: World, lists: Mapping[str, Authorities], now: datetime, known: Recall[Judged]
) -> dict[str, Judged]:
    """Every Certificate of the namespace. `lists`: its CA lists, judged; `known`: what the decision before gave."""
    found: dict[str, Judged] = {}
    for name, one in world.certificates.items():
        gateway = world.gateways.get(one.spec.gateway_ref.name)
        inputs = (
            one.spec,
            gateway and gateway.spec,
            tuple(member.name for member in world.members.get(one.spec.gateway_ref.name, ())),
            world.users.get(name),
            world.owned.get(f"Certificate/{name}"),
            lists,
            world.refusals,
        )
        found[name] = known.of(name, inputs, lambda name=name, one=one: _judged(name, one, world, lists, now))
    return found


def judge(certificate: Certificate, world: World, now: datetime) -> Judged:
    """One of them, where there are no CA lists to tell of."""
    return _judge(certificate.name, certificate, world, {}, now)


def _judged(
    name: str, certificate: Certificate, world: World, lists: Mapping[str, Authorities], now: datetime
) -> tuple[Judged, datetime | None]:
    judged = _judge(name, certificate, world, lists, now)
    # Requests come and go, and how long one has waited is seen at each look.
    return judged, now if certificate.spec.signer_name is not None else judged.holds_until(now)


def members_of(world: World, gateway: str) -> list[str]:
    """The names of the gateway's members: those that are wanted, and those that are still there."""
    replicas = world.gateways[gateway].spec.replicas if gateway in world.gateways else 0
    wanted = [f"{gateway}-{ordinal}" for ordinal in range(replicas)]
    return wanted + [one.name for one in world.members.get(gateway, ()) if one.name not in wanted]


def demo_again(world: World, gateway: str, now: datetime, known: Recall[Judged]) -> Judged:
    """`demo`, or what `known` has of it."""

    def made() -> tuple[Judged, datetime | None]:
        found = demo(world, gateway, now)
        return found, found.holds_until(now)

    return known.of(gateway, (world.gateways[gateway].spec,), made)


def demo(world: World, gateway: str, now: datetime) -> Judged:
    """The demo certificate of a gateway: made at first use, unique to it (C8)."""
    template = world.gateways[gateway].spec.hostname or ""
    fixed = template and not placeholders.stand_in(template) and not domains.unusable([template])
    name = template if fixed else f"{gateway}.demo.letterlock.invalid"
    spec = CertificateSpec.model_validate(
        {
            "level": "Cluster",
            "subject": {"organizationalUnit": "Letterlock demo certificate"},
            "dnsNames": [name],
            "privateKey": {"algorithm": "ECDSA"},
        }
    )
    secret = f"letterlock-demo-{gateway}"
    slot = Slot("", "", secret, _order(spec, f"MailGateway/{gateway}", secret, ""))
    filled = making.fill(spec, slot, world, now)
    return Judged(accepted(None), filled.ready, "Cluster", {"": filled})


def level_of(spec: CertificateSpec) -> Level:
    """The level in force: Machine when made here, Cluster when brought along, unless set."""
    if spec.level is not None:
        return spec.level
    return "Cluster" if spec.secret_ref is not None or spec.pkcs12 is not None else "Machine"


def soon(chain: Chain) -> timedelta:
    """How long before the end of a certificate that nobody renews people hear of it."""
    return min(_SOON, (chain.end - chain.start) / _SOON_SHARE)


def _judge(
    name: str, certificate: Certificate, world: World, lists: Mapping[str, Authorities], now: datetime
) -> Judged:
    spec = certificate.spec
    level = level_of(spec)
    for rule in _ACCEPTANCE:
        finding = rule(spec, level, world)
        if finding is not None:
            return Judged(accepted(finding), false(Type.READY, finding), level)
    gateway = spec.gateway_ref.name
    members = [""] if level == "Cluster" else members_of(world, gateway)
    slots = {
        member: _dated(spec, _fill(name, certificate, level, member, world, now), now) for member in members
    }
    ready = _readiness(slots)
    stray = _nobodys_upload(spec, level)
    if ready.holds and stray is not None:
        ready = false(Type.READY, stray)
    judged = Judged(accepted(None), ready, level, slots)
    exported = exporting.judge(certificate, slots.keys(), judged.chains, world)
    mine = {key: one for key, one in lists.items() if one.serves(gateway)}
    warnings = [*_warnings(judged, world, name, gateway, mine)]
    if exported.warning is not None:
        warnings.append(exported.warning)
    return replace(
        judged,
        warnings=tuple({one.type: one for one in reversed(warnings)}.values()),
        exports=exported.orders,
        retired=(*exported.retired, *_retired(name, gateway, world)),
    )


def _fill(
    name: str, certificate: Certificate, level: Level, member: str, world: World, now: datetime
) -> Filled:
    """The slot of one member, from the source that the spec names."""
    spec = certificate.spec
    if spec.secret_ref is not None:
        return bringing.followed(spec, level, member, world, now)
    secret = _secret_name(name, member)
    slot = Slot(name, member, secret, _order(spec, f"Certificate/{name}", secret, member))
    if spec.pkcs12 is not None:
        return bringing.imported(spec, level, slot, world, now)
    if spec.signer_name is not None:
        return signing.fill(spec, slot, world, now, _told_of(certificate))
    return making.fill(spec, slot, world, now)


def _told_of(certificate: Certificate) -> CertificateStatus:
    """The status, as far as it speaks of this very spec: who mends a refused wish need not wait."""
    status, generation = certificate.status, certificate.metadata.generation
    same = status.observed_generation is None or status.observed_generation == generation
    return status if same else CertificateStatus()


def _secret_name(certificate: str, member: str) -> str:
    return f"letterlock-cert-{certificate}" + (f"-{member}" if member else "")


def _gateway_missing(spec: CertificateSpec, _: Level, world: World) -> Finding | None:
    if spec.gateway_ref.name in world.gateways:
        return None
    return Reason.GATEWAY_NOT_FOUND, f"there is no MailGateway {spec.gateway_ref.name} in this namespace"


def _is_brought(spec: CertificateSpec) -> bool:
    return spec.secret_ref is not None or spec.pkcs12 is not None


def _no_name(spec: CertificateSpec, _: Level, __: World) -> Finding | None:
    if _is_brought(spec) or spec.subject.common_name or spec.dns_names:
        return None
    return Reason.INVALID, "set subject.commonName or dnsNames: a certificate needs a name"


def _not_cluster_capable(spec: CertificateSpec, level: Level, _: World) -> Finding | None:
    """Judged on what the user gave, before the common name is added (C9)."""
    wildcard = "*" in (spec.subject.common_name or "")
    if level == "Machine" or _is_brought(spec) or spec.dns_names or wildcard:
        return None
    return (
        Reason.NOT_CLUSTER_CAPABLE,
        "only a wildcard certificate or one with dnsNames can serve all members: add dnsNames, or set level: Machine",
    )


def _placeholder_at_cluster(spec: CertificateSpec, level: Level, _: World) -> Finding | None:
    if level == "Cluster" and any(map(placeholders.stand_in, [*spec.dns_names, *_subject(spec).values()])):
        return (
            Reason.INVALID,
            "{member} and {ordinal} stand for one member: use them with level: Machine only",
        )
    return None


def _one_import_for_several(spec: CertificateSpec, level: Level, world: World) -> Finding | None:
    """A certificate that is brought along for each member needs a name for each of them."""
    if level == "Cluster" or not _is_brought(spec) or world.gateways[spec.gateway_ref.name].spec.replicas < 2:
        return None
    texts = [spec.secret_ref.name] if spec.secret_ref else []
    if spec.pkcs12:
        texts += [spec.pkcs12.secret_key_ref.name, spec.pkcs12.secret_key_ref.key]
    if any(map(placeholders.stand_in, texts)):
        return None
    text = "one Secret for several members at Machine level: put {member} or {ordinal} into its name"
    return Reason.INVALID, f"{text}, or set level: Cluster"


def _name_that_cannot_be(spec: CertificateSpec, level: Level, world: World) -> Finding | None:
    """Names of hosts with the letters that IDNA takes, and a common name that fits, for every member."""
    if _is_brought(spec):
        return None
    gateway = spec.gateway_ref.name
    for member in [""] if level == "Cluster" else members_of(world, gateway):
        common = placeholders.filled(spec.subject.common_name or "", member)
        if len(common.encode()) > _LONGEST_COMMON_NAME:
            text = f"subject.commonName {common} is longer than {_LONGEST_COMMON_NAME} bytes (X.520)"
            return Reason.INVALID, f"{text}: put it into dnsNames alone"
        for name in [*spec.dns_names, spec.subject.common_name or ""]:
            try:
                domains.in_certificates(placeholders.filled(name, member))
            except ValueError as error:
                return Reason.INVALID, f"{error}: correct it"
    return None


_ACCEPTANCE: Final = (
    _gateway_missing,  # make sure that somebody uses it
    _no_name,  # make sure that there is something to certify
    _not_cluster_capable,  # make sure that one certificate may serve all members
    _placeholder_at_cluster,  # make sure that placeholders can be replaced
    _name_that_cannot_be,  # make sure that the names can stand in a certificate
    _one_import_for_several,  # make sure that members do not share what is one member's
)


def _readiness(slots: Mapping[str, Filled]) -> Verdict:
    if not slots:
        return false(Type.READY, (Reason.NO_MEMBERS, "the gateway has no members to make it for"))
    worst = [(member, one.ready) for member, one in sorted(slots.items()) if not one.ready.holds]
    if not worst:
        return true(Type.READY, Reason.ISSUED)
    # What people have to do something about comes before what is on its way.
    member, verdict = min(worst, key=lambda found: found[1].reason == Reason.ISSUING)
    return replace(verdict, message=f"{member}: {verdict.message}") if member else verdict


def _nobodys_upload(spec: CertificateSpec, level: Level) -> Finding | None:
    """An upload for a member that there cannot be would be passed over. Those that have gone may return."""
    prefix = f"{spec.gateway_ref.name}-"
    for one in spec.signed if level == "Machine" else ():
        if not (one.member.startswith(prefix) and one.member.removeprefix(prefix).isdigit()):
            said = f"there is no member {one.member}" if one.member else "an entry names no member"
            return Reason.INVALID, f"signed: {said}: say whose request was signed, as in member: {prefix}0"
    return None


def _dated(spec: CertificateSpec, filled: Filled, now: datetime) -> Filled:
    """`filled`, with what its dates call for."""
    chain = filled.chain
    if chain is None or filled.orders:
        return filled
    if chain.end <= now and filled.ready.holds:
        what = filled.expiring[1] if filled.expiring else "replace it"
        expired = (Reason.EXPIRED, f"it expired on {chain.end:%Y-%m-%d}: {what}")
        return replace(filled, ready=false(Type.READY, expired))
    renews = spec.renewal.mode == "Automatic" and not _is_brought(spec)
    if filled.expiring is not None:
        return filled
    # A signer that refuses, or never answers, lets it end as well.
    waits = f"its renewal waits: {filled.issuing[1]}" if filled.issuing is not None else ""
    if (waits or not renews) and chain.end - now <= soon(chain):
        text = f"it expires on {chain.end:%Y-%m-%d}, and {waits or 'nothing renews it here: replace it'}"
        return replace(filled, expiring=(Reason.EXPIRING_SOON, text))
    ended = chain.ended(now + _SOON)
    if ended:
        text = f"{ended}: give the certificate with the intermediates that its CA uses now"
        return replace(filled, expiring=(Reason.EXPIRING_SOON, text))
    return filled


def _warnings(
    judged: Judged, world: World, name: str, gateway: str, lists: Mapping[str, Authorities]
) -> list[Verdict]:
    found: list[Verdict] = []
    users = world.users.get(name, ())
    serving = any(user.startswith("Listener/") for user in users) or not users
    for member, filled in sorted(judged.slots.items()):
        if filled.expiring is not None:
            found.append(true(Type.EXPIRING_SOON, *filled.expiring))
        chain = filled.chain
        if chain is None:
            continue
        if chain.weakness:
            found.append(true(Type.WEAK_KEY, Reason.WEAK_KEY, chain.weakness))
        untrusted = covering.issuer_not_trusted(chain, lists)
        if untrusted is not None:
            found.append(untrusted)
        if not member and serving:
            uncovered = covering.names_not_covered(chain, world.gateways[gateway], members_of(world, gateway))
            if uncovered is not None:
                found.append(uncovered)
    return found


def _retired(name: str, gateway: str, world: World) -> list[Retire]:
    """Pairs of members that have gone (C9): their keys are of no use to anybody else."""
    there = {_secret_name(name, member) for member in members_of(world, gateway)}
    prefix = f"{_secret_name(name, '')}-{gateway}-"
    return [
        Retire(one.name, one.resource_version, "its member has gone")
        for one in world.owned.get(f"Certificate/{name}", ())
        if one.name.startswith(prefix) and one.name.removeprefix(prefix).isdigit() and one.name not in there
    ]


def _order(spec: CertificateSpec, owner: str, secret: str, member: str) -> Issue:
    algorithm = spec.private_key.algorithm
    size = spec.private_key.size or _DEFAULT_SIZE[algorithm]
    subject = {key: placeholders.filled(value, member) for key, value in _subject(spec).items()}
    names = tuple(placeholders.filled(name, member) for name in spec.dns_names)
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


def _subject(spec: CertificateSpec) -> dict[str, str]:
    return {key: value for key, value in spec.subject.model_dump().items() if value}
