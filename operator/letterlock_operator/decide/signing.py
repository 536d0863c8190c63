"""Certificates of a Kubernetes signer, through certificates.k8s.io (C11). Called by `certificates`.

The key stays in its Secret; what is asked is a request for it. Until the signer has answered for the first time, a
self-signed certificate serves, and the condition says so; from then on only what the signer signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from letterlock_api.certificate import CertificateSpec, CertificateStatus
from letterlock_api.conditions import Reason, Type
from letterlock_api.snapshot import content_hash
from letterlock_operator.decide import chains, keeping, making, room
from letterlock_operator.decide.chains import Chain, Refused
from letterlock_operator.decide.keeping import Held
from letterlock_operator.decide.slots import MAKING, READY, Filled, Slot, nothing
from letterlock_operator.decide.verdicts import Finding, Verdict, false, unknown
from letterlock_operator.plan import Install, Request
from letterlock_operator.world import SigningRequest, Unreadable, World

# After a refusal: a minute, then twice as long each time, up to an hour. Kubernetes forgets refused requests
# after an hour, and people who mend an approval policy do not want to wait for longer than that.
_FIRST_RETRY: Final = timedelta(minutes=1)
_LAST_RETRY: Final = timedelta(hours=1)
# Nobody tells us of an answer: we look, the less often the longer it takes.
_FIRST_LOOK: Final = timedelta(seconds=1)
_LAST_LOOK: Final = timedelta(seconds=30)
# certificates.k8s.io refuses less.
_SHORTEST: Final = 600


@dataclass(frozen=True)
class _Case:
    """One slot and all that its decision rests on."""

    spec: CertificateSpec
    slot: Slot
    held: Held
    chain: Chain
    requests: Mapping[str, SigningRequest]
    namespace: str
    now: datetime
    failed: int
    """Requests refused in a row, as the status has it."""
    due: datetime | None
    """When to ask again, as the status has it."""

    @property
    def stand_in(self) -> bool:
        """Whether what serves is not the signer's: it has not answered yet."""
        return self.chain.self_signed


def fill(spec: CertificateSpec, slot: Slot, world: World, now: datetime, status: CertificateStatus) -> Filled:
    """The slot of a certificate that a Kubernetes signer signs. `status`: as it was written last."""
    held = keeping.read(slot.secret, slot.order.owner, world)
    if held is None:
        return nothing(MAKING, slot.order)
    if isinstance(held, Verdict):
        return Filled(held)
    if held.chain is None:
        return nothing(MAKING, making.again(slot, held, keep_key=bool(held.key)))
    if world.requests is None:
        text = "there is no signer here: signerName works on a cluster only"
        return Filled(false(Type.READY, (Reason.NOT_SUPPORTED, text)), held.chain, request=held.request)
    if isinstance(world.requests, Unreadable):
        text = f"signing requests cannot be read: {world.requests.problem}"
        return Filled(unknown(Type.READY, (Reason.PENDING, text)), held.chain, request=held.request)
    # The status speaks of all members together: a refusal that is another one's is none of ours.
    others = any(
        one.certificate == slot.certificate
        and one.member != slot.member
        and one.state in ("Denied", "Failed")
        for one in world.requests.values()
    )
    return _fill(
        _Case(
            spec,
            slot,
            held,
            held.chain,
            world.requests,
            world.namespace,
            now,
            0 if others else status.failed_attempts or 0,
            None if others else status.next_attempt_time,
        )
    )


def _fill(case: _Case) -> Filled:
    spec, slot, held, chain = case.spec, case.slot, case.held, case.chain
    changed = held.inputs != slot.order.inputs
    due = keeping.is_due(spec, chain, case.now)
    renewal = None if spec.renewal.mode == "Never" or case.stand_in else keeping.renewal_time(spec, chain)
    serving = Filled(READY, chain, request=held.request, renewal=renewal)
    if case.stand_in and not changed:
        if due:
            return replace(serving, orders=(making.again(slot, held, keep_key=True),))
        return _asked(case, serving, held.request, from_next=False)
    if not (changed or due):
        return serving
    if not held.next_request or held.next_inputs != slot.order.inputs:
        keep = making.same_kind_of_key(slot, chain) and (changed or not spec.renewal.rotate_key)
        order = replace(making.again(slot, held, keep_key=keep), store="next-request")
        return replace(serving, orders=(order,), ready=_readiness(case, MAKING))
    return _asked(case, replace(serving, request=held.next_request), held.next_request, from_next=True)


def _asked(case: _Case, serving: Filled, request: str, *, from_next: bool) -> Filled:
    """What became of the request, or the order to make one."""
    replaces = "" if case.stand_in else case.chain.fingerprint
    stem = _stem(case.namespace, case.slot, f"{case.spec.signer_name} {request} {replaces}")
    mine = [one for name, one in case.requests.items() if name.startswith(stem)]
    if not mine:
        if case.failed and case.due is not None and case.now < case.due:
            last_refusal = (Reason.REQUEST_FAILED, "the signer refused the last request")
            return _refused(case, serving, last_refusal, case.failed, case.due)
        return _waiting(case, serving, _request(case, stem, request, case.failed), failed=case.failed)
    last = max(mine, key=lambda one: one.attempt)
    since = last.since or case.now
    finding = _refusal(last)
    if finding is None and not last.chain:
        return _waiting(case, serving, since=since, failed=case.failed)
    if finding is None:
        taken = _signed(case, last.chain, from_next=from_next)
        if isinstance(taken, Install):
            return replace(serving, orders=(taken,), ready=_readiness(case, MAKING))
        if isinstance(taken, datetime):
            early = (
                Reason.NOT_YET_VALID,
                f"the signer's certificate is valid from {taken:%Y-%m-%d %H:%M} UTC on",
            )
            return replace(serving, ready=_readiness(case, early), issuing=early, wakes=(taken,))
        finding = taken
    due = since + min(_FIRST_RETRY * 2 ** min(last.attempt, 10), _LAST_RETRY)
    failed = last.attempt + 1
    if case.now < due:
        return _refused(case, serving, finding, failed, due)
    return _waiting(case, serving, _request(case, stem, request, failed), failed=failed)


def _signed(case: _Case, chain: bytes, *, from_next: bool) -> Install | datetime | Finding:
    """The order to use what the signer gave, or from when on it can be used, or what is wrong with it."""
    held = case.held
    try:
        taken = chains.read(held.next_key if from_next else held.key, chain)
    except Refused as refused:
        return Reason.REQUEST_FAILED, f"what the signer signed cannot be used: {refused.message}"
    too_large = room.larger_than_all("what the signer signed", len(taken.pem))
    if too_large:
        return Reason.REQUEST_FAILED, too_large[1]
    if taken.end <= case.now:
        return Reason.REQUEST_FAILED, f"the signer gave a certificate that ended on {taken.end:%Y-%m-%d}"
    if taken.start > case.now:
        return taken.start
    return Install(
        case.slot.secret,
        case.slot.order.owner,
        taken.certificates_pem,
        held.keep.resource_version,
        from_next=from_next,
    )


def _refusal(request: SigningRequest) -> Finding | None:
    said = f": {request.message}" if request.message else ""
    match request.state:
        case "Denied":
            return Reason.REQUEST_DENIED, f"CertificateSigningRequest {request.name} was denied{said}"
        case "Failed":
            return (
                Reason.REQUEST_FAILED,
                f"the signer could not sign CertificateSigningRequest {request.name}{said}",
            )
        case _:
            return None


def _waiting(
    case: _Case,
    serving: Filled,
    order: Request | None = None,
    *,
    since: datetime | None = None,
    failed: int = 0,
) -> Filled:
    text = (
        f"signer {case.spec.signer_name} has been asked: approve the CertificateSigningRequest"
        " where nobody does so by itself"
    )
    finding = (Reason.AWAITING_SIGNER, text)
    waited = case.now - (since or case.now)
    return replace(
        serving,
        ready=_readiness(case, finding),
        issuing=finding,
        asks=(order,) if order is not None else (),
        wakes=(case.now + min(max(waited / 10, _FIRST_LOOK), _LAST_LOOK),),
        failed_attempts=failed,
    )


def _refused(case: _Case, serving: Filled, finding: Finding, failed: int, due: datetime) -> Filled:
    said = (finding[0], f"{finding[1]}; it is asked again at {due:%H:%M:%S} UTC")
    return replace(
        serving,
        ready=_readiness(case, said),
        issuing=said,
        wakes=(due,),
        failed_attempts=failed,
        next_attempt=due,
    )


def _readiness(case: _Case, finding: Finding) -> Verdict:
    """A certificate of the signer serves on until the next comes; a stand-in is not what was asked for."""
    return false(Type.READY, finding) if case.stand_in else READY


def _stem(namespace: str, slot: Slot, asked: str) -> str:
    """Name of the requests for one thing, without the attempt. They are cluster-wide: the namespace is in it."""
    readable = f"letterlock-{namespace}-{slot.certificate}" + (f"-{slot.member}" if slot.member else "")
    return f"{readable[:200].rstrip('.-')}-{content_hash(asked.encode())[:12]}-"


def _request(case: _Case, stem: str, request: str, attempt: int) -> Request:
    encrypts = case.slot.order.algorithm == "RSA"  # RSA key exchange of TLS 1.2 and before
    usages = ("digital signature", *(("key encipherment",) if encrypts else ()), "server auth", "client auth")
    return Request(
        name=f"{stem}{attempt}",
        certificate=case.slot.certificate,
        member=case.slot.member,
        signer=case.spec.signer_name or "",
        request=request.encode(),
        usages=usages,
        seconds=max(case.spec.days * 86400, _SHORTEST),
        attempt=attempt,
    )
