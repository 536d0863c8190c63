"""The snapshot of one gateway, out of everything that was judged, with the files that it names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from letterlock_api.base import parse_duration
from letterlock_api.conditions import Reason
from letterlock_api.destinationcontrol import DestinationControl
from letterlock_api.listener import Listener
from letterlock_api.mailgateway import MailGateway
from letterlock_api.snapshot import (
    RetrySchedule,
    ServedCertificate,
    Snapshot,
    SnapshotAlertRecipient,
    SnapshotAlerts,
    SnapshotDelivery,
    SnapshotListener,
    SnapshotMember,
    content_hash,
    member_hostname,
)
from letterlock_operator.decide import (
    authorities,
    controls,
    directories,
    domains,
    in_place,
    listeners,
    management,
    naming,
)
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.controls import Controls
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.remembering import Recall
from letterlock_operator.decide.scaling import Scaling
from letterlock_operator.decide.verdicts import Finding, Verdict
from letterlock_operator.plan import Mount
from letterlock_operator.world import World


@dataclass(frozen=True)
class Outcome:
    """All that was judged for one gateway."""

    snapshot: Snapshot
    hash: str
    """Of the snapshot; computed once, for encoding 10,000 destinations takes long."""
    mount: Mount | None
    """None: it cannot be mounted; `finding` says why."""
    finding: Finding | None
    demo: JudgedCertificate | None
    listeners: Mapping[str, listeners.Judged]
    controls: Controls
    lists: Mapping[str, Authorities]
    """Those that serve the gateway, as they are in force."""
    certificates: Mapping[str, JudgedCertificate]
    """Those of the gateway, as they are in use."""
    scaling: Scaling
    warnings: Sequence[Verdict] = ()
    """What to warn of at the MailGateway."""


@dataclass(frozen=True)
class Given:
    """What the snapshot of a gateway is made from, beside its world."""

    gateway: MailGateway
    listening: Mapping[str, Listener]
    """Its Listeners."""
    judged: Mapping[str, JudgedCertificate]
    """Its Certificates."""
    lists: Mapping[str, Authorities]
    """Those that serve it."""
    controlled: Mapping[str, DestinationControl]
    """Its DestinationControls."""
    ruled: Controls
    """The same, judged."""
    demo: JudgedCertificate | None
    """Its demo certificate, where it is needed."""
    before: Snapshot | None
    """Its snapshot in place."""
    scaling: Scaling
    heard: Recall[listeners.Judged]
    """What became of its Listeners in the decision before."""


@dataclass(frozen=True)
class Draft:
    """A snapshot, and all that it rests on."""

    lists: Mapping[str, Authorities]
    judged: Mapping[str, JudgedCertificate]
    demo: JudgedCertificate | None
    listeners: Mapping[str, listeners.Judged]
    controls: Controls
    snapshot: Snapshot
    destinations: Sequence[str]
    """Those of the snapshot, encoded."""
    files: Mapping[str, bytes]
    """All that could be had of those that it names."""
    finding: Finding | None
    warnings: Sequence[Verdict] = ()


def needs_demo(gateway: MailGateway, mine: Mapping[str, Listener]) -> bool:
    """Whether something of the gateway, whose Listeners are `mine`, is served with the demo certificate."""
    return management.needs_demo(gateway) or any(listeners.needs_demo(one.spec) for one in mine.values())


def draft(
    world: World,
    given: Given,
    lists: Mapping[str, Authorities],
    judged: Mapping[str, JudgedCertificate],
    kept_back: Mapping[str, Finding],
) -> Draft:
    """The snapshot of a gateway, as far as there is room for what it names.

    `lists`, `judged`: its CA lists and Certificates, those without room among them as they are.
    `kept_back`: Secrets with credentials for next hops that there is no room for.
    """
    gateway, before, demo, scaling = given.gateway, given.before, given.demo, given.scaling
    files_kept = in_place.key_files(world, gateway.name)
    in_use = in_place.member_files(before, files_kept)
    judged = {
        name: replace(one, earlier=in_use[name]) if in_use.get(name) else one for name, one in judged.items()
    }
    old = {one.name: one for one in before.listeners} if before else {}
    asked = directories.judge(world, gateway, judged, before)
    known = listeners.Known(lists, judged, demo, asked)
    heard = {
        name: listeners.judge_again(one, world, known, old.get(name), given.heard)
        for name, one in sorted(given.listening.items())
    }
    opened = [one.listener for one in heard.values() if one.listener is not None]
    opened += in_place.invalid_listeners(world, old)
    mine = given.ruled
    if kept_back or lists != given.lists:
        mine = controls.judge_all(
            world, gateway.name, given.controlled, lists, kept_back, before=mine, were=given.controlled
        )
    kept = in_place.invalid_destinations(world, before, mine.owners)
    first = 1 if any("*" in one.domains for one in kept) and not mine.entries[0].resource else 0
    entries = [*mine.entries[first:], *kept]
    encoded = [*mine.encoded[first:], *(one.encoded() for one in kept)]
    delivery, finding = _delivery(gateway, judged, before)
    managed = management.judge(world, gateway, lists, judged, demo=demo, opened=opened, before=before)
    trust = {name: one.trust for name, one in sorted(lists.items()) if one.trust is not None}
    still = in_place.directories_still_asked(opened, asked.directories, before)
    nameless = _no_hostname(world, gateway)
    base = Snapshot(
        gateway=gateway.name,
        namespace=world.namespace,
        hostname=gateway.spec.hostname if nameless is None else (before.hostname if before else None),
        postmaster=gateway.spec.postmaster,
        max_hops=gateway.spec.max_hops,
        listeners=opened,
        destinations=entries,
        delivery=delivery,
        directories=[*asked.directories, *still],
        alerts=_alerts(gateway),
        management=managed.management,
        trust=trust,
        drains=list(scaling.drains),
        admits=None if scaling.admits is None else list(scaling.admits),
        members=_members(gateway.name, scaling) if managed.management is not None else [],
    )
    needed = [one.file for one in trust.values()] + [file for one in base.served() for file in _files(one)]
    needed += [one.bind_file for one in base.directories if one.bind_file is not None]
    needed += mine.files
    needed += [route.auth_file for one in kept for route in one.routes if route.auth_file is not None]
    if base.management is not None and base.management.users_file is not None:
        needed.append(base.management.users_file)
    base = base.model_copy(update={"files": sorted(set(needed))})
    snapshot = base.model_copy(update={"digests": _digests(base, lists, judged, mine)})
    made = {
        **_all_files(list(judged.values()), demo),
        **files_kept,
        **asked.files,
        **managed.files,
    }
    made |= mine.files
    made |= authorities.ca_files(lists, frozenset(trust))
    files = {name: made[name] for name in snapshot.files if name in made}
    finding = (
        naming.gateway_taken(world, gateway.name)
        or nameless
        or finding
        or next(iter(asked.findings.values()), None)
    )
    return Draft(
        lists,
        judged,
        demo,
        heard,
        mine,
        snapshot,
        encoded,
        files,
        finding or managed.finding,
        managed.warnings,
    )


def _members(gateway: str, scaling: Scaling) -> list[SnapshotMember]:
    """All members, by the names that their headless Service gives them: an address would change with each restart."""
    return [SnapshotMember(name=one, host=f"{one}.{gateway}-members") for one in scaling.members]


def _no_hostname(world: World, gateway: MailGateway) -> Finding | None:
    members = world.names_of_members(gateway.name) if gateway.spec.hostname else []
    problem = domains.unusable(member_hostname(gateway.spec.hostname, member) for member in members)
    return (Reason.INVALID, f"spec.hostname: {problem}: correct it") if problem else None


def _delivery(
    gateway: MailGateway, judged: Mapping[str, JudgedCertificate], before: Snapshot | None
) -> tuple[SnapshotDelivery, Finding | None]:
    spec = gateway.spec.delivery
    certificate: ServedCertificate | None = None
    finding: Finding | None = None
    if spec.certificate_ref is not None:
        name = spec.certificate_ref.name
        found = judged.get(name)
        certificate = found.served(name) if found is not None and found.accepted.holds else None
        if certificate is None:
            old = before.delivery.certificate if before else None
            certificate = old if old is not None and old.name == name else None
            reason = Reason.CERTIFICATE_NOT_FOUND if found is None else Reason.CERTIFICATE_NOT_READY
            finding = (reason, f"spec.delivery.certificateRef: Certificate {name} is not there or not ready")
    retry = spec.retry
    return (
        SnapshotDelivery(
            certificate=certificate,
            tls_alert=spec.tls_alert == "Enabled",
            retry=RetrySchedule(
                initial=parse_duration(retry.initial).total_seconds(),
                max=parse_duration(retry.max).total_seconds(),
                give_up_after=parse_duration(retry.give_up_after).total_seconds(),
                attempts=retry.attempts,
            ),
            bounce_from=spec.bounce.from_,
            delay_notice=parse_duration(spec.bounce.delay_notice).total_seconds(),
            bounce_max_size=spec.bounce.max_size,
            tracking_retention=parse_duration(spec.tracking_retention).total_seconds(),
            resolvers=list(spec.resolvers),
            address_family=spec.address_family,
        ),
        finding,
    )


def _alerts(gateway: MailGateway) -> SnapshotAlerts:
    return SnapshotAlerts(
        sender=gateway.spec.alerts.from_,
        recipients=[
            SnapshotAlertRecipient(address=one.address, severities=one.severities, types=one.types)
            for one in gateway.spec.alerts.recipients
        ],
    )


def _files(one: ServedCertificate) -> list[str]:
    return [one.file] if one.file else list(one.files.values())


def _all_files(judged: Sequence[JudgedCertificate], demo: JudgedCertificate | None) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for one in [*judged, *([demo] if demo else [])]:
        found |= one.files()
    return found


def _digests(
    base: Snapshot,
    lists: Mapping[str, Authorities],
    judged: Mapping[str, JudgedCertificate],
    mine: Controls,
) -> dict[str, str]:
    found = {f"Listener/{one.name}": _listener_digest(base, one) for one in base.listeners}
    found |= mine.digests
    found |= {
        f"CAList/{name}": content_hash(one.model_dump_json().encode()) for name, one in base.trust.items()
    }
    found |= {
        f"CAList/{name}": in_place.OFF for name, one in lists.items() if one.trust is None and one.ready.holds
    }
    found |= {
        f"Certificate/{name}": content_hash("\n".join(sorted(one.files())).encode())
        for name, one in judged.items()
        if one.chains and not one.unfit
    }
    rest = base.model_copy(
        update={
            "listeners": [],
            "destinations": [],
            "trust": {},
            "files": [],
            "drains": [],
            "admits": None,
            "members": [],
        }
    )
    found[f"MailGateway/{base.gateway}"] = content_hash(rest.encode())
    return found


def _listener_digest(base: Snapshot, listener: SnapshotListener) -> str:
    asked = [one for one in base.directories if listener.query and one.name == listener.query.directory]
    return content_hash("".join(one.model_dump_json() for one in (listener, *asked)).encode())
