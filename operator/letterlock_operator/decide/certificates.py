"""Certificates: which are to be made, which can be used, and what is to be said of them (C1-C5, C7-C11).

How one key and certificate comes about is decided by `making` (made here, self-signed or uploaded), `signing` (by a
Kubernetes signer) and `bringing` (by Secret or PKCS#12 file); here it is put together for the whole resource.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from letterlock_api.certificate import Certificate, CertificateSpec, CertificateStatus, Level
from letterlock_api.conditions import Reason, Type
from letterlock_api.snapshot import content_hash
from letterlock_operator.decide import (
    accepting,
    bringing,
    covering,
    dating,
    domains,
    exporting,
    making,
    placeholders,
    signing,
)
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.remembering import Recall
from letterlock_operator.decide.slots import Filled, Slot
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted, false, true
from letterlock_operator.plan import Issue, Retire
from letterlock_operator.world import World

_DEFAULT_SIZE: Final = {"RSA": 2048, "ECDSA": 256}


def judge_all(
    world: World, lists: Mapping[str, Authorities], now: datetime, known: Recall[JudgedCertificate]
) -> dict[str, JudgedCertificate]:
    """Every Certificate of the namespace. `lists`: its CA lists, judged; `known`: what the decision before gave."""
    found: dict[str, JudgedCertificate] = {}
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


def judge(certificate: Certificate, world: World, now: datetime) -> JudgedCertificate:
    """One of them, where there are no CA lists to tell of."""
    return _judge(certificate.name, certificate, world, {}, now)


def _judged(
    name: str, certificate: Certificate, world: World, lists: Mapping[str, Authorities], now: datetime
) -> tuple[JudgedCertificate, datetime | None]:
    judged = _judge(name, certificate, world, lists, now)
    # Requests come and go, and how long one has waited is seen at each look.
    return judged, now if certificate.spec.signer_name is not None else judged.holds_until(now)


def demo_again(
    world: World, gateway: str, now: datetime, known: Recall[JudgedCertificate]
) -> JudgedCertificate:
    """`demo`, or what `known` has of it."""

    def made() -> tuple[JudgedCertificate, datetime | None]:
        found = demo(world, gateway, now)
        return found, found.holds_until(now)

    return known.of(gateway, (world.gateways[gateway].spec,), made)


def demo(world: World, gateway: str, now: datetime) -> JudgedCertificate:
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
    return JudgedCertificate(accepted(None), filled.ready, "Cluster", {"": filled})


def _judge(
    name: str, certificate: Certificate, world: World, lists: Mapping[str, Authorities], now: datetime
) -> JudgedCertificate:
    spec = certificate.spec
    level = spec.level_in_force
    finding = accepting.problem(spec, level, world)
    if finding is not None:
        return JudgedCertificate(accepted(finding), false(Type.READY, finding), level)
    gateway = spec.gateway_ref.name
    members = [""] if level == "Cluster" else world.names_of_members(gateway)
    slots = {
        member: dating.dated(spec, _fill(name, certificate, level, member, world, now), now)
        for member in members
    }
    ready = _readiness(slots)
    stray = _nobodys_upload(spec, level)
    if ready.holds and stray is not None:
        ready = false(Type.READY, stray)
    judged = JudgedCertificate(accepted(None), ready, level, slots)
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


def _warnings(
    judged: JudgedCertificate, world: World, name: str, gateway: str, lists: Mapping[str, Authorities]
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
            uncovered = covering.names_not_covered(
                chain, world.gateways[gateway], world.names_of_members(gateway)
            )
            if uncovered is not None:
                found.append(uncovered)
    return found


def _retired(name: str, gateway: str, world: World) -> list[Retire]:
    """Pairs of members that have gone (C9): their keys are of no use to anybody else."""
    there = {_secret_name(name, member) for member in world.names_of_members(gateway)}
    prefix = f"{_secret_name(name, '')}-{gateway}-"
    return [
        Retire(one.name, one.resource_version, "its member has gone")
        for one in world.owned.get(f"Certificate/{name}", ())
        if one.name.startswith(prefix) and one.name.removeprefix(prefix).isdigit() and one.name not in there
    ]


def _order(spec: CertificateSpec, owner: str, secret: str, member: str) -> Issue:
    algorithm = spec.private_key.algorithm
    size = spec.private_key.size or _DEFAULT_SIZE[algorithm]
    subject = {key: placeholders.filled(value, member) for key, value in spec.subject.given.items()}
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
