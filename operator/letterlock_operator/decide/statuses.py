"""The whole status of each kind, out of what was judged."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography import x509

from letterlock_api import receptions
from letterlock_api.calist import CAList, CAListStatus
from letterlock_api.certificate import Certificate, CertificateMember, CertificateStatus, NextCertificate
from letterlock_api.conditions import Reason, Type
from letterlock_api.destinationcontrol import DestinationControl, DestinationControlStatus
from letterlock_api.listener import Listener, ListenerMember, ListenerStatus
from letterlock_api.mailgateway import GatewayMember, MailGateway, MailGatewayStatus
from letterlock_api.state import DestinationState
from letterlock_operator import names
from letterlock_operator.decide import (
    authorities,
    destinations,
    domains,
    listeners,
    outcomes,
    policies,
)
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.programmed import Standing, listening, programmed
from letterlock_operator.decide.snapshots import Outcome
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted, false, listed, stamped, true
from letterlock_operator.world import FieldConflict, Member


def certificate(
    resource: Certificate,
    judged: JudgedCertificate,
    users: Sequence[str],
    running: Verdict,
    now: datetime,
) -> CertificateStatus:
    """Status of a Certificate. `running`: its condition Programmed."""
    verdicts = [judged.accepted, judged.ready, _issuing(judged), running]
    verdicts += judged.warnings
    status = CertificateStatus(
        observed_generation=resource.metadata.generation,
        level=judged.level,
        used_by=list(users),
        renewal_time=judged.renewal,
        request=_request(judged, ""),
        next=_next(judged),
        failed_attempts=max((one.failed_attempts for one in judged.slots.values()), default=0) or None,
        next_attempt_time=min(
            (one.next_attempt for one in judged.slots.values() if one.next_attempt is not None), default=None
        ),
        conditions=stamped(verdicts, resource.metadata.generation, now, resource.status.conditions),
    )
    if judged.level == "Machine" and judged.chains:
        status = status.model_copy(update={"members": _certificate_members(judged)})
    chain = judged.chains.get("") or next(iter(judged.chains.values()), None)
    if chain is None:
        return status
    algorithm, size = chain.key
    leaf = chain.leaf
    return status.model_copy(
        update={
            "subject": leaf.subject.rfc4514_string(),
            "issuer": leaf.issuer.rfc4514_string(),
            "common_name": chain.common_name,
            "serial_number": f"{leaf.serial_number:x}",
            "fingerprint": chain.fingerprint,
            "not_before": leaf.not_valid_before_utc,
            "not_after": leaf.not_valid_after_utc,
            "expires": f"{leaf.not_valid_after_utc:%Y-%m-%d}",
            "dns_names": chain.names,
            "key_algorithm": algorithm,
            "key_size": size,
            "self_signed": chain.self_signed,
            "intermediates": [one.subject.rfc4514_string() for one in chain.intermediates],
        }
    )


def _request(judged: JudgedCertificate, member: str) -> str | None:
    filled = judged.slots.get(member)
    return filled.request or None if filled is not None else None


def _next(judged: JudgedCertificate) -> NextCertificate | None:
    """The prepared next certificate; the first member's, where each has its own."""
    prepared = [one.following for _, one in sorted(judged.slots.items()) if one.following is not None]
    if not prepared:
        return None
    chain = prepared[0]
    return NextCertificate(
        certificate=chain.certificates_pem.decode(),
        fingerprint=chain.fingerprint,
        not_before=chain.start,
        not_after=chain.end,
    )


def _certificate_members(judged: JudgedCertificate) -> list[CertificateMember]:
    return [
        CertificateMember(
            name=member,
            fingerprint=chain.fingerprint,
            not_after=chain.end,
            request=_request(judged, member) or "",
        )
        for member, chain in sorted(judged.chains.items())
    ]


def _issuing(judged: JudgedCertificate) -> Verdict:
    under_way = next((one.issuing for one in judged.slots.values() if one.issuing is not None), None)
    if under_way is not None:
        return true(Type.ISSUING, *under_way)
    if judged.issues:
        return true(Type.ISSUING, Reason.ISSUING, "key and certificate are being made")
    return false(
        Type.ISSUING, (Reason.ISSUED, "") if judged.chains else (judged.ready.reason, judged.ready.message)
    )


def listener(
    resource: Listener,
    judged: listeners.Judged,
    running: Verdict,
    shown: bytes | None,
    members: Sequence[ListenerMember],
    now: datetime,
) -> ListenerStatus:
    """Status of a Listener. `running`: its condition Programmed; `shown`: the file that it serves to everybody."""
    verdicts = [judged.accepted, judged.resolved, running, *judged.warnings]
    merged, rows = policies.merge(resource.spec), policies.groups(resource.spec)
    known = judged.accepted.reason != Reason.UNKNOWN_POLICY
    served = judged.listener.certificates[0] if judged.listener and judged.listener.certificates else None
    mapped = [f"{one.from_}→{one.to}" for one in resource.spec.domain_map]
    return ListenerStatus(
        observed_generation=resource.metadata.generation,
        tls=receptions.summary(receptions.reachable(merged, rows)) if known else None,
        certificate=("(demo)" if served.demo else served.name) if served else None,
        certificate_not_after=x509.load_pem_x509_certificate(shown).not_valid_after_utc if shown else None,
        domain_map_summary=domains.summary(mapped) if mapped else None,
        members=list(members),
        conditions=stamped(verdicts, resource.metadata.generation, now, resource.status.conditions),
    )


def listener_running(
    name: str, judged: listeners.Judged, outcome: Outcome, standing: Standing, members: Sequence[Member]
) -> Verdict:
    """Programmed of a Listener."""
    verdict = judged.accepted
    if verdict.holds and not judged.resolved.holds:
        # It serves the last good certificate at best, and that is not what the resource says.
        verdict = judged.resolved
    return listening(name, running(f"Listener/{name}", verdict, outcome, standing), members)


def listener_shown(judged: listeners.Judged, outcome: Outcome) -> bytes | None:
    """The file that the Listener serves to everybody, as members have it."""
    served = judged.listener.certificates[0] if judged.listener and judged.listener.certificates else None
    if served is None or outcome.mount is None or served.file is None:
        return None
    return outcome.mount.tls_files.get(served.file)


def listener_members(name: str, members: Sequence[Member]) -> list[ListenerMember]:
    """What the members say of a Listener."""
    return [_listener_member(name, one) for one in members if one.state is not None]


def _listener_member(name: str, member: Member) -> ListenerMember:
    states = member.state.listeners if member.state else []
    mine = next((one for one in states if one.name == name), None)
    if mine is None:
        return ListenerMember(name=member.name, listening=False)
    return ListenerMember(name=member.name, listening=mine.listening, problem=mine.problem)


def destination(
    resource: DestinationControl,
    judged: destinations.Judged,
    running: Verdict,
    states: Sequence[DestinationState],
    now: datetime,
    *,
    silent: bool,
) -> DestinationControlStatus:
    """Status of a DestinationControl. `running`: its condition Programmed; `states`: the members' word on it.

    `silent`: whether no member has said anything at all.
    """
    last, failing, delivering = outcomes.outcome(resource.status, states, now, silent=silent)
    verdicts = [judged.accepted, running, delivering]
    modes = sorted({one.tls_mode for one in judged.destinations})
    return DestinationControlStatus(
        observed_generation=resource.metadata.generation,
        domain_summary=domains.summary(list(resource.spec.domains)),
        tls_mode=", ".join(modes) or resource.spec.tls.mode,
        last_tls=last,
        failing=failing,
        conditions=stamped(verdicts, resource.metadata.generation, now, resource.status.conditions),
    )


def ca_list(
    resource: CAList, judged: authorities.Authorities, programmed_: Verdict, now: datetime
) -> CAListStatus:
    """Status of a CAList."""
    verdicts = [judged.accepted, judged.ready, programmed_, *judged.warnings]
    return CAListStatus(
        observed_generation=resource.metadata.generation,
        count=judged.count,
        pinned=judged.pinned,
        rejected=list(judged.rejected),
        expiring_next=judged.expiring_next,
        conditions=stamped(verdicts, resource.metadata.generation, now, resource.status.conditions),
    )


def gateway(
    resource: MailGateway,
    outcome: Outcome,
    standing: Standing,
    members: Sequence[Member],
    now: datetime,
    *,
    conflicts: Sequence[FieldConflict] = (),
) -> MailGatewayStatus:
    """Status of a MailGateway. `conflicts`: objects of it that others keep changing."""
    wanted = resource.spec.replicas
    ready = sum(one.ready for one in members)
    judged = accepted(outcome.finding)
    snapshot = outcome.hash
    whole = ready == wanted and wanted > 0
    text = f"{ready} of {wanted} members are ready"
    readiness = (
        true(Type.READY, Reason.READY, text)
        if whole
        else false(Type.READY, (Reason.NOT_READY, text + _who_is_not(members)))
    )
    verdicts = [judged, running(f"MailGateway/{resource.name}", judged, outcome, standing), readiness]
    verdicts += outcome.warnings
    verdicts += [outcome.scaling.warning] if outcome.scaling.warning is not None else []
    verdicts += [_conflict(conflicts)] if conflicts else []
    selector = ",".join(f"{key}={value}" for key, value in sorted(names.labels(resource.name).items()))
    return MailGatewayStatus(
        observed_generation=resource.metadata.generation,
        replicas=len(members),
        ready_replicas=ready,
        ready=f"{ready}/{wanted}",
        selector=selector,
        snapshot=snapshot,
        members=[_gateway_member(one, _newest(members)) for one in members],
        conditions=stamped(verdicts, resource.metadata.generation, now, resource.status.conditions),
    )


def _who_is_not(members: Sequence[Member]) -> str:
    """Which members are not ready, and why, as far as that is known."""
    told = [
        f"{one.name} is not{f' ({why})' if (why := one.halted or one.problem) else ''}"
        for one in members
        if not one.ready
    ]
    return f": {listed(told)}" if told else ""


def _conflict(conflicts: Sequence[FieldConflict]) -> Verdict:
    """Of those that change several objects, the first speaks; the others follow once it has stopped."""
    first = min(conflicts, key=lambda one: one.what)
    more = f" (and {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
    text = (
        f"{first.manager} keeps changing {first.what}{more}, which is the operator's: it is left as it is until "
        f"{first.until:%H:%M:%S} UTC; have {first.manager} leave it alone"
    )
    return true(Type.FIELD_CONFLICT, Reason.FIELD_CONFLICT, text)


def _gateway_member(member: Member, newest: str) -> GatewayMember:
    halted, restarts = [member.halted] if member.halted else [], member.restarts or None
    if member.state is None:
        silent = [member.problem] if member.problem else []
        return GatewayMember(name=member.name, restarts=restarts, problems=[*halted, *silent])
    state = member.state
    problems = [f"refused snapshot {state.refused}: {state.refused_reason}"] if state.refused else []
    if _number(state.version) < _number(newest):
        runs = state.version or "unknown"
        problems.append(f"runs version {runs}, older than {newest} of others: it restarts with its image")
    return GatewayMember(
        name=member.name,
        snapshot=state.snapshot,
        version=state.version or None,
        queue=state.queue,
        restarts=restarts,
        problems=[*halted, *problems, *state.problems],
    )


def _newest(members: Sequence[Member]) -> str:
    """The newest version that a member runs; empty: none says."""
    return max((one.state.version for one in members if one.state is not None), key=_number, default="")


def _number(version: str) -> tuple[int, ...]:
    """A release's number, to be compared: what stands before a sign that is no digit and no dot."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))


def missing_gateway(name: str) -> Finding:
    """What is said of everything that points to a gateway that is not there."""
    return (
        Reason.GATEWAY_NOT_FOUND,
        f"there is no MailGateway {name} in this namespace: create it, or set gatewayRef",
    )


def running(key: str, judged: Verdict, outcome: Outcome | None, standing: Standing) -> Verdict:
    """Programmed of resource `key` (`Kind/name`), whose Accepted or Ready verdict is `judged`."""
    if outcome is None or not judged.holds:
        return false(Type.PROGRAMMED, (judged.reason, judged.message))
    if outcome.mount is None and outcome.finding is not None:
        return false(Type.PROGRAMMED, outcome.finding)
    return programmed(key, outcome.snapshot.digests.get(key), judged, standing)


def ca_programmed(
    key: str,
    judged: authorities.Authorities,
    found: Mapping[str, Outcome],
    standings: Mapping[str, Standing],
) -> Verdict:
    """Programmed of a CA list, over all gateways that it serves: the first that does not run it speaks."""
    verdict = judged.accepted if not judged.accepted.holds else judged.ready
    if not verdict.holds:
        return false(Type.PROGRAMMED, (verdict.reason, verdict.message))
    if not found:
        return false(
            Type.PROGRAMMED, (Reason.GATEWAY_NOT_FOUND, "there is no MailGateway for it in this namespace")
        )
    results = [running(key, verdict, outcome, standings[name]) for name, outcome in sorted(found.items())]
    return next((one for one in results if not one.holds), results[0])
