"""Directories (LDAP) of a gateway, and the listeners that ask them: what members shall know of both.

A listener never takes mail without the query that was asked for: where it cannot be asked as it is written, the last
good state keeps running, and without one the listener is not opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from letterlock_api import credentials, queries
from letterlock_api.conditions import Reason
from letterlock_api.listener import ListenerSpec
from letterlock_api.mailgateway import LDAPProfile, MailGateway
from letterlock_api.references import KeyReference
from letterlock_api.snapshot import RecipientQuery, ServedCertificate, Snapshot, SnapshotDirectory
from letterlock_operator import names
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.keeping import INTERNAL_CA_KEY
from letterlock_operator.decide.verdicts import Finding
from letterlock_operator.world import Keep, Unreadable, World


@dataclass(frozen=True)
class Judged:
    """All directories of a gateway."""

    directories: tuple[SnapshotDirectory, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Key files that they name, as far as they are made from Secrets of today."""
    findings: Mapping[str, Finding] = field(default_factory=dict[str, Finding])
    """What is wrong, by directory; such a one stays as it was, or is not there at all."""


def judge(
    world: World, gateway: MailGateway, judged: Mapping[str, JudgedCertificate], before: Snapshot | None
) -> Judged:
    """Those in `spec.ldap`. `before`: the snapshot in place."""
    old = {one.name: one for one in before.directories} if before is not None else {}
    made: list[SnapshotDirectory] = []
    files: dict[str, bytes] = {}
    findings: dict[str, Finding] = {}
    for profile in sorted(gateway.spec.ldap, key=lambda one: one.name):
        found = _directory(world, gateway.name, profile, judged)
        if isinstance(found, tuple):
            findings[profile.name] = found
            if profile.name in old:
                made.append(old[profile.name])
            continue
        directory, content = found.directory, found.file
        if content is not None and directory.bind_file is not None:
            files[directory.bind_file] = content
        made.append(directory)
    return Judged(tuple(made), files, findings)


def query(spec: ListenerSpec, known: Judged) -> RecipientQuery | Finding | None:
    """What a listener asks, or why it cannot; None: nothing."""
    wanted = spec.accept_query
    if wanted is None:
        return None
    if wanted.ldap in known.findings:
        reason, text = known.findings[wanted.ldap]
        return reason, f"acceptQuery: {text}"
    if wanted.ldap not in {one.name for one in known.directories}:
        there = ", ".join(one.name for one in known.directories) or "none"
        return (
            Reason.DIRECTORY_NOT_FOUND,
            f"acceptQuery: the MailGateway's ldap has no {wanted.ldap}; there is {there}",
        )
    problem = queries.problem(wanted.filter)
    if problem:
        return Reason.INVALID, f"acceptQuery: filter {wanted.filter}: {problem}"
    return RecipientQuery(directory=wanted.ldap, filter=wanted.filter)


@dataclass(frozen=True)
class _Made:
    directory: SnapshotDirectory
    file: bytes | None


def _directory(
    world: World, gateway: str, profile: LDAPProfile, judged: Mapping[str, JudgedCertificate]
) -> _Made | Finding:
    where = f"spec.ldap {profile.name}"
    if profile.bind_dn is not None and profile.bind_password_secret_key_ref is None:
        # RFC 4513 section 5.1.2: servers take a name without a password for nobody.
        return Reason.INVALID, f"{where}: bindDN needs bindPasswordSecretKeyRef: set it, or leave both out"
    certificate = _certificate(where, profile, judged)
    if isinstance(certificate, tuple):
        return certificate
    content: bytes | None = None
    if profile.bind_password_secret_key_ref is not None:
        found = _credentials(
            world, gateway, where, profile.bind_dn or "", profile.bind_password_secret_key_ref
        )
        if isinstance(found, tuple):
            return found
        content = found
    return _Made(
        SnapshotDirectory(
            name=profile.name,
            servers=list(profile.servers),
            tls=profile.tls,
            base_dn=profile.base_dn,
            bind_file=credentials.file_name(content) if content is not None else None,
            certificate=certificate,
        ),
        content,
    )


def _certificate(
    where: str, profile: LDAPProfile, judged: Mapping[str, JudgedCertificate]
) -> ServedCertificate | Finding | None:
    if profile.certificate_ref is None:
        return None
    name = profile.certificate_ref.name
    found = judged.get(name)
    served = found.served(name) if found is not None and found.accepted.holds else None
    if served is not None:
        return served
    reason = Reason.CERTIFICATE_NOT_FOUND if found is None else Reason.CERTIFICATE_NOT_READY
    return reason, f"{where}: certificateRef: Certificate {name} is not there or not ready"


def _credentials(
    world: World, gateway: str, where: str, bind: str, reference: KeyReference
) -> bytes | Finding:
    """The key file with the bind DN and its password; nothing that is said holds any of it."""
    found = world.secrets.get(reference.name)
    if isinstance(found, Unreadable):
        return Reason.PENDING, f"{where}: Secret {reference.name} cannot be read: {found.problem}"
    if found is None or reference.key not in found.data:
        return (
            Reason.SECRET_NOT_FOUND,
            f"{where}: there is no Secret {reference.name} with the key {reference.key}: create it",
        )
    try:
        password = found.data[reference.key].decode().removesuffix("\n")
    except UnicodeDecodeError:
        return Reason.INVALID, f"{where}: the password in Secret {reference.name} must be UTF-8"
    made = credentials.Credentials(bind, password)
    if problem := made.problem():
        text = problem.replace("username", "bindDN")
        return Reason.INVALID, f"{where}: Secret {reference.name}, key {reference.key}: {text}"
    internal = world.secrets.get(names.internal_secret(gateway))
    if not isinstance(internal, Keep) or not internal.ours or INTERNAL_CA_KEY not in internal.data:
        return Reason.PENDING, f"{where}: the gateway's internal CA is not there yet"
    return credentials.encode(made, internal.data[INTERNAL_CA_KEY])
