"""Where the certificate that a CA signed comes from: `spec.signed`, inline or by reference (C3). Called by `making`."""

from letterlock_api.certificate import CertificateSpec, Signed
from letterlock_api.conditions import Reason, Type
from letterlock_api.references import PEMSource
from letterlock_operator.decide.verdicts import Verdict, false, unknown
from letterlock_operator.world import Unreadable, World

# The text with certificate and intermediates, or why it cannot be had.
type Offer = bytes | Verdict


def offer(spec: CertificateSpec, member: str, world: World) -> Offer | None:
    """What was uploaded for the member's request (empty at Cluster level); None: nothing."""
    found = next((one for one in spec.signed if one.member == member), None)
    return None if found is None else _text(found, world)


def _text(signed: Signed, world: World) -> Offer:
    parts: list[bytes] = []
    for inline, source in (
        (signed.certificate, signed.certificate_from),
        (signed.intermediates, signed.intermediates_from),
    ):
        if inline is not None:
            parts.append(inline.encode())
        elif source is not None:
            found = _referenced(source, world)
            if isinstance(found, Verdict):
                return found
            parts.append(found)
    return b"\n".join(parts)


def _referenced(source: PEMSource, world: World) -> bytes | Verdict:
    kind, keeps, reference = (
        ("Secret", world.secrets, source.secret_key_ref)
        if source.secret_key_ref is not None
        else ("ConfigMap", world.config_maps, source.config_map_key_ref)
    )
    if reference is None:
        return false(Type.READY, (Reason.INVALID, "signed: name a ConfigMap or a Secret with its key"))
    found = keeps.get(reference.name)
    if isinstance(found, Unreadable):
        text = f"signed: {kind} {reference.name} cannot be read: {found.problem}"
        return unknown(Type.READY, (Reason.PENDING, text))
    if found is None or reference.key not in found.data:
        what = (
            f"no {kind} {reference.name}"
            if found is None
            else f"no key {reference.key} in {kind} {reference.name}"
        )
        reason = Reason.SECRET_NOT_FOUND if kind == "Secret" else Reason.SOURCE_NOT_FOUND
        return false(Type.READY, (reason, f"signed: there is {what}; the present certificate stays in use"))
    return found.data[reference.key]
