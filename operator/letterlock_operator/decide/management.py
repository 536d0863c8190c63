"""HTTPS management of a gateway: with which certificate it is served, and who may sign in (H1, H2, C8, C10).

Called by `snapshots`. Without anybody who could sign in the service is there and shows nothing; a certificate that is
not ready is never replaced by another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from letterlock_api import htpasswd
from letterlock_api.conditions import Reason, Type
from letterlock_api.mailgateway import HTTPS, MailGateway
from letterlock_api.snapshot import (
    ServedCertificate,
    Snapshot,
    SnapshotListener,
    SnapshotManagement,
    users_file_name,
)
from letterlock_operator import names
from letterlock_operator.decide import naming
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.verdicts import Finding, Verdict, true
from letterlock_operator.world import Unreadable, World

_WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_NOTHING_SHOWN = "until then the pages show nothing"


@dataclass(frozen=True)
class Judged:
    """The management of a gateway."""

    management: SnapshotManagement | None = None
    """What members shall serve; None: nothing."""
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """The users file, where it is made from a Secret of today."""
    finding: Finding | None = None
    warnings: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class _Users:
    file: str | None = None
    content: bytes | None = None
    finding: Finding | None = None


def needs_demo(gateway: MailGateway) -> bool:
    """Whether the pages are served with the demo certificate (H2)."""
    https = gateway.spec.management.https
    return https is not None and https.certificate_ref is None


def judge(
    world: World,
    gateway: MailGateway,
    lists: Mapping[str, Authorities],
    judged: Mapping[str, JudgedCertificate],
    *,
    demo: JudgedCertificate | None,
    opened: list[SnapshotListener],
    before: Snapshot | None,
) -> Judged:
    """What `spec.management` comes to. `opened`: the gateway's listeners; `before`: the snapshot in place."""
    wanted = gateway.spec.management
    https = wanted.https
    if https is None:
        return Judged()
    old = before.management if before is not None else None
    warnings: tuple[Verdict, ...] = ()
    if needs_demo(gateway):
        text = (
            "HTTPS management serves the demo certificate, which nobody can verify:"
            " set management.https.certificateRef"
        )
        warnings = (true(Type.DEMO_CERTIFICATE, Reason.DEMO_CERTIFICATE, text),)
    certificate, finding = _certificate(https, judged, demo, old)
    taken = naming.service_taken(world, names.https_service(gateway.name), "MailGateway")
    finding = (
        (taken and (taken[0], f"management.https: {taken[1]}")) or _port_conflict(https, opened) or finding
    )
    if certificate is None or (
        finding is not None and finding[0] in (Reason.PORT_CONFLICT, Reason.NAME_TAKEN)
    ):
        return Judged(finding=finding, warnings=warnings)
    users = _users(world, gateway, old)
    chosen = wanted.client_certificates
    signs_in = chosen is not None and bool(chosen.names or chosen.fingerprints)
    missing = [
        one.name
        for one in (chosen.ca_list_refs if chosen else [])
        if one.name not in lists or lists[one.name].trust is None
    ]
    if missing:
        text = f"management.clientCertificates: CAList {missing[0]} is not there, or switched off"
        finding = finding or (Reason.CA_LIST_NOT_FOUND, text)
        signs_in = False
    made = SnapshotManagement(
        address="" if (https.address or "") in _WILDCARDS else https.address or "",
        port=https.port,
        certificate=certificate,
        users_file=users.file,
        client_certificates=signs_in,
        client_ca_lists=sorted(one.name for one in chosen.ca_list_refs) if chosen and signs_in else [],
        client_names=list(chosen.names) if chosen and signs_in else [],
        client_fingerprints=list(chosen.fingerprints) if chosen and signs_in else [],
    )
    nobody = users.finding if users.finding is not None or signs_in or users.file else _nobody()
    files = {users.file: users.content} if users.file and users.content is not None else {}
    return Judged(made, files, finding or nobody, warnings)


def _nobody() -> Finding:
    text = (
        "management.https is set, but nobody can sign in:"
        " name a Secret with an htpasswd key in management.usersSecretRef"
    )
    return Reason.SECRET_NOT_FOUND, f"{text}; {_NOTHING_SHOWN}"


def _certificate(
    https: HTTPS,
    judged: Mapping[str, JudgedCertificate],
    demo: JudgedCertificate | None,
    old: SnapshotManagement | None,
) -> tuple[ServedCertificate | None, Finding | None]:
    """What to serve. For one that is missing or not ready the last good one of that name stays (C10)."""
    if https.certificate_ref is None:
        served = demo.served("", demo=True) if demo is not None else None
        waiting = (Reason.CERTIFICATE_NOT_READY, "management.https: the demo certificate is being made")
        return served, None if served is not None else waiting
    name = https.certificate_ref.name
    found = judged.get(name)
    served = found.served(name) if found is not None and found.accepted.holds else None
    if served is not None:
        return served, None
    reason = Reason.CERTIFICATE_NOT_FOUND if found is None else Reason.CERTIFICATE_NOT_READY
    finding = (reason, f"management.https.certificateRef: Certificate {name} is not there or not ready")
    return (old.certificate if old is not None and old.certificate.name == name else None), finding


def _port_conflict(https: HTTPS, opened: list[SnapshotListener]) -> Finding | None:
    """Mail comes first: a listener keeps its port."""
    for one in opened:
        mine = https.address or ""
        same = mine in _WILDCARDS or one.address in _WILDCARDS or mine == one.address
        if one.port == https.port and same:
            return (
                Reason.PORT_CONFLICT,
                f"management.https: port {https.port} belongs to Listener {one.name}: use another",
            )
    return None


def _users(world: World, gateway: MailGateway, old: SnapshotManagement | None) -> _Users:
    """Who may sign in by password. A Secret that is gone lets nobody in; one that cannot be read changes nothing."""
    reference = gateway.spec.management.users_secret_ref
    if reference is None:
        return _Users()
    where = f"management.usersSecretRef: Secret {reference.name}"
    found = world.secrets.get(reference.name)
    kept = old.users_file if old is not None else None
    if isinstance(found, Unreadable):
        return _Users(file=kept, finding=(Reason.PENDING, f"{where} cannot be read: {found.problem}"))
    if found is None or "htpasswd" not in found.data:
        text = f"{where} with the key htpasswd is not there: create it; {_NOTHING_SHOWN}"
        return _Users(finding=(Reason.SECRET_NOT_FOUND, text))
    content = found.data["htpasswd"]
    users = htpasswd.parse(content)
    finding = (Reason.INVALID, f"{where}: {'; '.join(users.problems[:3])}") if users.problems else None
    if not users.hashes:
        text = f"{where}: {'; '.join(users.problems[:3]) or 'it names no users'}; {_NOTHING_SHOWN}"
        return _Users(finding=(Reason.INVALID, text))
    lines = "".join(f"{name}:{hashed}\n" for name, hashed in sorted(users.hashes.items())).encode()
    return _Users(users_file_name(lines), lines, finding)
