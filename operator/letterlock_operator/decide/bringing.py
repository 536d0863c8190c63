"""Certificates that people bring along: a Secret that someone else keeps, or a PKCS#12 file (C4, C11).

Called by `certificates`. A file is opened once, into a Secret of ours; what is in use stays until another file
was opened. A Secret of someone else is followed as it is.
"""

from datetime import datetime

from letterlock_api.certificate import CertificateSpec, Level
from letterlock_api.conditions import Reason, Type
from letterlock_api.snapshot import content_hash
from letterlock_operator.decide import chains, keeping, placeholders
from letterlock_operator.decide.chains import Chain, Refused
from letterlock_operator.decide.slots import READY, Filled, Slot, nothing
from letterlock_operator.decide.verdicts import Finding, Verdict, false, unknown
from letterlock_operator.plan import Import
from letterlock_operator.world import Keep, Unreadable, World


def followed(spec: CertificateSpec, level: Level, member: str, world: World, now: datetime) -> Filled:
    """A `kubernetes.io/tls` Secret of someone else, cert-manager say."""
    assert spec.secret_ref is not None  # noqa: S101 - the caller's case
    name = placeholders.filled(spec.secret_ref.name, member)
    found = _secret(name, world)
    if isinstance(found, Verdict):
        return Filled(found)
    for key in (keeping.KEY, keeping.CERTIFICATE):
        if not found.data.get(key):
            return nothing((Reason.SECRET_NOT_FOUND, f"Secret {name} has no {key}"))
    try:
        chain = chains.read(
            found.data[keeping.KEY],
            found.data[keeping.CERTIFICATE],
            found.data.get(keeping.CA_CERTIFICATES, b""),
        )
    except Refused as refused:
        return nothing((refused.reason, f"Secret {name}: {refused.message}"))
    problem = unusable(chain, level, now, f"the certificate in Secret {name}")
    return _not_now(problem, chain) if problem else Filled(READY, chain)


def imported(spec: CertificateSpec, level: Level, slot: Slot, world: World, now: datetime) -> Filled:
    """A PKCS#12 file, opened into the slot's Secret."""
    assert spec.pkcs12 is not None  # noqa: S101 - the caller's case
    secret, member = slot.secret, slot.member
    held = keeping.read(secret, slot.order.owner, world)
    if isinstance(held, Verdict):
        return Filled(held)
    present = held.chain if held is not None else None
    given = _file(spec, member, world)
    if isinstance(given, Verdict):
        return Filled(given, present)
    file, passphrase = given
    inputs = content_hash(
        content_hash(file).encode() + b"\0" + (passphrase or b"") + (b"\1" if passphrase else b"")
    )
    replaces = held.keep.resource_version if held is not None else ""
    order = Import(secret, slot.order.owner, file, passphrase, inputs, level, replaces)
    refusal = world.refusals.get(order.attempt)
    if refusal is not None and (refusal.until is None or now < refusal.until):
        stays = "; the present certificate stays in use" if present is not None else ""
        finding = (refusal.reason, f"pkcs12: {refusal.message}{stays}")
        return Filled(false(Type.READY, finding), present, wakes=(refusal.until,) if refusal.until else ())
    if held is None or present is None or held.inputs != inputs:
        opening = (Reason.ISSUING, "the PKCS#12 file is being opened")
        return Filled(false(Type.READY, opening), present, orders=(order,))
    problem = unusable(present, level, now, "the certificate in the PKCS#12 file")
    return _not_now(problem, present) if problem else Filled(READY, present)


def unusable(chain: Chain, level: Level, now: datetime, what: str) -> Finding | None:
    """Why a certificate that was brought along cannot be used; `what` it is, for people."""
    wildcard = "*" in (chain.common_name or "")
    if level == "Cluster" and not chain.names and not wildcard:
        text = "only a wildcard certificate or one with names can serve all members"
        return Reason.NOT_CLUSTER_CAPABLE, f"{what} has no subject alternative name: {text}"
    if chain.start > now:
        return Reason.NOT_YET_VALID, f"{what} is valid from {chain.start:%Y-%m-%d %H:%M} UTC on"
    return None


def _not_now(problem: Finding, chain: Chain) -> Filled:
    """An empty slot, until the certificate can be used."""
    return Filled(
        false(Type.READY, problem), wakes=(chain.start,) if problem[0] == Reason.NOT_YET_VALID else ()
    )


def _file(spec: CertificateSpec, member: str, world: World) -> tuple[bytes, bytes | None] | Verdict:
    """The file and its passphrase, or why they cannot be had."""
    assert spec.pkcs12 is not None  # noqa: S101 - the caller's case
    references = [spec.pkcs12.secret_key_ref, spec.pkcs12.passphrase_secret_key_ref]
    values: list[bytes] = []
    for reference in references:
        if reference is None:
            continue
        name, key = placeholders.filled(reference.name, member), placeholders.filled(reference.key, member)
        found = _secret(name, world)
        if isinstance(found, Verdict):
            return found
        if key not in found.data:
            return false(Type.READY, (Reason.SECRET_NOT_FOUND, f"pkcs12: Secret {name} has no key {key}"))
        values.append(found.data[key])
    return values[0], values[1] if len(values) > 1 else None


def _secret(name: str, world: World) -> Keep | Verdict:
    found = world.secrets.get(name)
    if isinstance(found, Unreadable):
        return unknown(Type.READY, (Reason.PENDING, f"Secret {name} cannot be read: {found.problem}"))
    if found is None:
        return false(Type.READY, (Reason.SECRET_NOT_FOUND, f"there is no Secret {name}"))
    return found
