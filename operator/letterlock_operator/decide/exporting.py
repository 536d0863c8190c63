"""Exports of certificates as PKCS#12 into Secrets of the user's choice, and what has no use any more (C5, C9).

Called by `certificates`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from letterlock_api.certificate import Certificate, PKCS12Export
from letterlock_api.conditions import Reason, Type
from letterlock_api.snapshot import content_hash
from letterlock_operator.decide import placeholders
from letterlock_operator.decide.chains import Chain
from letterlock_operator.decide.verdicts import Verdict, true
from letterlock_operator.plan import Export, ExportedFile, Retire
from letterlock_operator.world import Keep, World


@dataclass(frozen=True)
class Exported:
    """What is to be written, what cannot be, and what is to be removed."""

    orders: tuple[Export, ...] = ()
    warning: Verdict | None = None
    retired: tuple[Retire, ...] = ()


def judge(
    certificate: Certificate, members: Collection[str], chains: Mapping[str, Chain], world: World
) -> Exported:
    """The exports of a certificate that is for `members` (`""`: all), and whose pairs are `chains`."""
    spec = certificate.spec.export.pkcs12 if certificate.spec.export else None
    owner = f"Certificate/{certificate.name}"
    if spec is None:
        return Exported(retired=_retired(owner, frozenset(), world))
    files: dict[str, list[ExportedFile]] = {}
    problem: str | None = None
    for member, chain in sorted(chains.items()):
        made = _file(certificate.name, spec, member, chain, world)
        if isinstance(made, str):
            problem = problem or made
            continue
        secret = placeholders.filled(spec.secret_name, member)
        if any(one.name == made.name for one in files.get(secret, ())):
            problem = (
                problem or f"several members would write {made.name} into Secret {secret}: put {{member}} in"
            )
            continue
        files.setdefault(secret, []).append(made)
    orders: list[Export] = []
    for secret, wanted in sorted(files.items()):
        order = _order(secret, owner, tuple(wanted), world)
        if isinstance(order, str):
            problem = problem or order
        elif order is not None:
            orders.append(order)
    wanted_names = frozenset(placeholders.filled(spec.secret_name, member) for member in members)
    return Exported(
        tuple(orders),
        true(Type.NOT_EXPORTED, Reason.NOT_EXPORTED, f"export: {problem}") if problem else None,
        # What a member has exported stays while it has no pair to export.
        _retired(owner, wanted_names, world) if members else (),
    )


def _file(name: str, spec: PKCS12Export, member: str, chain: Chain, world: World) -> ExportedFile | str:
    reference = spec.passphrase_secret_key_ref
    secret, key = placeholders.filled(reference.name, member), placeholders.filled(reference.key, member)
    found = world.secrets.get(secret)
    if not isinstance(found, Keep):
        return f"there is no Secret {secret} with the passphrase" if found is None else found.problem
    passphrase = found.data.get(key, b"").rstrip(b"\r\n")
    if not passphrase:
        return f"Secret {secret} has no passphrase under key {key}: a key is never exported without one"
    friendly = name + (f" ({member})" if member else "")
    return ExportedFile(placeholders.filled(spec.file_name, member), friendly, chain.pem, passphrase)


def _order(secret: str, owner: str, files: tuple[ExportedFile, ...], world: World) -> Export | str | None:
    """The order to write the Secret; text: why it cannot be written; None: it is as it shall be."""
    inputs = content_hash(
        b"\0".join(
            part
            for one in files
            for part in (one.name.encode(), one.friendly_name.encode(), one.pem, one.passphrase)
        )
    )
    present = world.secrets.get(secret)
    if present is None:
        return Export(secret, owner, files, inputs)
    if not isinstance(present, Keep):
        return f"Secret {secret} cannot be read: {present.problem}"
    if not present.ours or present.owner != owner:
        return f"Secret {secret} exists and is not ours: choose another secretName, or remove that Secret (NameTaken)"
    if not present.inputs:
        return f"Secret {secret} is where its key lies: choose another secretName (NameTaken)"
    whole = all(present.data.get(one.name) for one in files) and len(present.data) == len(files)
    if present.inputs == inputs and whole:
        return None
    return Export(secret, owner, files, inputs, present.resource_version)


def _retired(owner: str, wanted: frozenset[str], world: World) -> tuple[Retire, ...]:
    """Files with keys that nobody asked for any more."""
    return tuple(
        Retire(one.name, one.resource_version, "it is not exported there any more")
        for one in world.owned.get(owner, ())
        if one.inputs and one.name not in wanted
    )
