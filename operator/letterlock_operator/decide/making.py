"""Certificates with a key that is made here: self-signed, until a CA's certificate is uploaded for it (C1-C3, C11).

Called by `certificates`. Every step is one order for one Secret, decided on what the Secret holds now: whoever
stops in the middle, or does the same twice, goes on from there.
"""

from dataclasses import replace
from datetime import datetime

from letterlock_api.certificate import CertificateSpec
from letterlock_api.conditions import Reason, Type
from letterlock_operator.decide import chains, keeping, room, uploading
from letterlock_operator.decide.chains import Chain, Refused
from letterlock_operator.decide.keeping import Held
from letterlock_operator.decide.slots import MAKING, READY, Filled, Slot, nothing
from letterlock_operator.decide.verdicts import Finding, Verdict, false
from letterlock_operator.plan import Install, Issue
from letterlock_operator.world import World


def fill(spec: CertificateSpec, slot: Slot, world: World, now: datetime) -> Filled:
    """The slot of a certificate that is self-signed or uploaded."""
    held = keeping.read(slot.secret, slot.order.owner, world)
    if held is None:
        return nothing(MAKING, slot.order)
    if isinstance(held, Verdict):
        return Filled(held)
    if held.chain is None:
        # Somebody has broken our Secret. What of the key can be saved is saved: peers may know it.
        return nothing(MAKING, again(slot, held, keep_key=bool(held.key)))
    offer = uploading.offer(spec, slot.member, world)
    if offer is None:
        return _self_signed(spec, slot, held, held.chain, now)
    return _uploaded(spec, slot, held, held.chain, offer, now)


def again(slot: Slot, held: Held, *, keep_key: bool) -> Issue:
    """The slot's order, for the Secret as it is now."""
    return replace(slot.order, replaces=held.keep.resource_version, keep_key=keep_key)


def same_kind_of_key(slot: Slot, chain: Chain) -> bool:
    """Whether the key in use is of the algorithm and size that is wanted now."""
    return chain.key == (slot.order.algorithm, slot.order.size)


def _self_signed(spec: CertificateSpec, slot: Slot, held: Held, chain: Chain, now: datetime) -> Filled:
    changed = held.inputs != slot.order.inputs or not chain.self_signed
    due = keeping.is_due(spec, chain, now)
    keep = same_kind_of_key(slot, chain) and (changed or not spec.renewal.rotate_key)
    serving = Filled(
        READY,
        chain,
        request=held.request,
        following=held.next_chain,
        renewal=None if spec.renewal.mode == "Never" else keeping.renewal_time(spec, chain),
    )
    if spec.renewal.mode == "Prepare":
        return _prepared(spec, slot, held, serving, now, wanted=changed or due, keep_key=keep)
    if changed:
        return replace(serving, ready=false(Type.READY, MAKING), orders=(again(slot, held, keep_key=keep),))
    if due:
        return replace(
            serving,
            orders=(again(slot, held, keep_key=keep),),
            issuing=(Reason.ISSUING, "it is being renewed"),
        )
    return serving


def _prepared(
    spec: CertificateSpec,
    slot: Slot,
    held: Held,
    serving: Filled,
    now: datetime,
    *,
    wanted: bool,
    keep_key: bool,
) -> Filled:
    """Nothing that peers hold is replaced before they hold the next: `activate` says when they do (C4)."""
    following = held.next_chain
    if following is not None and spec.renewal.activate == following.fingerprint:
        return replace(
            serving,
            orders=(
                Install(
                    slot.secret,
                    slot.order.owner,
                    following.certificates_pem,
                    held.keep.resource_version,
                    from_next=True,
                ),
            ),
            issuing=(Reason.ISSUING, "the prepared certificate is being put in place"),
        )
    if not wanted:
        return serving
    usable = (
        following is not None
        and held.next_inputs == slot.order.inputs
        and not keeping.is_due(spec, following, now)
    )
    if following is None or not usable:
        order = replace(again(slot, held, keep_key=keep_key), store="next")
        return replace(
            serving,
            following=None,
            orders=(order,),
            issuing=(Reason.ISSUING, "the next certificate is being prepared"),
        )
    text = (
        "the next certificate is in status.next: give it to the peers that hold the present one, then set"
        f" spec.renewal.activate: {following.fingerprint}"
    )
    return replace(
        serving,
        issuing=(Reason.AWAITING_ACTIVATION, text),
        expiring=(Reason.AWAITING_ACTIVATION, _before(serving.chain, text)),
        wakes=(keeping.renewal_time(spec, following),),
    )


def _uploaded(
    spec: CertificateSpec, slot: Slot, held: Held, chain: Chain, offer: uploading.Offer, now: datetime
) -> Filled:
    """What a CA signed for our request, in place of what is there; the present one stays if that cannot be."""
    request = held.next_request or held.request
    renewal = None if spec.renewal.mode == "Never" else keeping.renewal_time(spec, chain)
    serving = Filled(READY, chain, request=request, renewal=renewal)
    if isinstance(offer, Verdict):
        return replace(serving, ready=offer)
    taken, from_next, problem = _fitting(held, offer)
    if problem is None and taken is not None:
        problem = _dates(taken, chain, now)
        if problem is None and (from_next or taken.certificates_pem != chain.certificates_pem):
            order = Install(
                slot.secret,
                slot.order.owner,
                taken.certificates_pem,
                held.keep.resource_version,
                from_next=from_next,
            )
            return replace(serving, ready=false(Type.READY, MAKING), orders=(order,))
    filled = _with_request(spec, slot, held, chain, serving, now)
    if problem is None:
        return filled
    wakes = (taken.start,) if taken is not None and problem[0] == Reason.NOT_YET_VALID else ()
    text = f"{problem[1]}; the present certificate stays in use"
    return replace(filled, ready=false(Type.READY, (problem[0], text)), wakes=wakes)


def _fitting(held: Held, pem: bytes) -> tuple[Chain | None, bool, Finding | None]:
    """The uploaded chain with the key that it belongs to, and whether that is the prepared next key."""
    for key, from_next in ((held.key, False), (held.next_key, True)):
        try:
            taken = chains.read(key, pem, strict=True)
        except Refused as refused:
            if refused.reason != Reason.KEY_MISMATCH:
                return None, False, (refused.reason, f"signed: {refused.message}")
        else:
            too_large = room.larger_than_all("signed: the certificate with its chain", len(taken.pem))
            return (None, False, too_large) if too_large else (taken, from_next, None)
    text = (
        "signed: the certificate is for another key than that of the request in status: have that one signed"
    )
    return None, False, (Reason.KEY_MISMATCH, text)


def _dates(taken: Chain, present: Chain, now: datetime) -> Finding | None:
    if taken.end <= now and taken.fingerprint != present.fingerprint:
        return (
            Reason.EXPIRED,
            f"signed: the certificate expired on {taken.end:%Y-%m-%d}: have a new one signed",
        )
    ended = taken.ended(now)
    if ended and taken.certificates_pem != present.certificates_pem:
        return Reason.EXPIRED, f"signed: {ended}: give the one that the CA uses now"
    if taken.start > now:
        return (
            Reason.NOT_YET_VALID,
            f"signed: the certificate is valid from {taken.start:%Y-%m-%d %H:%M} UTC on",
        )
    return None


def _with_request(
    spec: CertificateSpec, slot: Slot, held: Held, chain: Chain, serving: Filled, now: datetime
) -> Filled:
    """Keeps the request fit for what is wanted now; a certificate of a CA is never replaced by one of ours."""
    due = keeping.is_due(spec, chain, now)
    changed = held.inputs != slot.order.inputs
    if due and chain.self_signed:
        # Nobody has signed the request yet: what serves until then must not end, and keeps its key.
        if spec.renewal.mode == "Prepare":
            prepared = replace(serving, following=held.next_chain)
            return _prepared(spec, slot, held, prepared, now, wanted=True, keep_key=True)
        return replace(serving, orders=(again(slot, held, keep_key=True),))
    new_key = (changed and not same_kind_of_key(slot, chain)) or (due and spec.renewal.rotate_key)
    if new_key and held.next_inputs != slot.order.inputs:
        return replace(serving, orders=(replace(again(slot, held, keep_key=False), store="next-request"),))
    if changed and same_kind_of_key(slot, chain):
        return replace(serving, orders=(replace(again(slot, held, keep_key=True), store="request"),))
    if not due:
        return serving
    text = "have the request in status signed, and put the answer into spec.signed"
    return replace(serving, expiring=(Reason.EXPIRING_SOON, _before(chain, text)))


def _before(chain: Chain | None, what: str) -> str:
    return f"it expires on {chain.end:%Y-%m-%d}: {what}" if chain is not None else what
