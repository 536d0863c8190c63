"""A survey as plain values, for `letterlock check`: what it prints, and what `-o json` gives. Pure.

Keys are a promise to scripts, like the words of the API. Called by `manage.checking`; shown by the command line.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509

from letterlock_api import authorities
from letterlock_api.conditions import Reason
from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway.deliver import explanations, outcomes_table
from letterlock_gateway.deliver.checks import Checked
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.nexthops import NextHost
from letterlock_gateway.deliver.outcomes_table import Decision, Event
from letterlock_gateway.deliver.survey import Seen, Stop, Survey
from letterlock_gateway.deliver.verdicts import MODES, VERIFYING, Ending
from letterlock_gateway.tls import chains, names

type Values = dict[str, Any]

# Of a chain, as verification does.
_MAX_PRESENTED: Final = 16
_WAITS: Final = "it waits and is tried again"
_BOUNCES: Final = "it bounces"


def of(survey: Survey, now: float) -> Values:
    """All of it, at `now` (Unix seconds). `delivered` is the answer; `modes` has one for each mode."""
    policy = survey.terms.policy
    configured = survey.endings[policy.tls_mode]
    return {
        "domain": survey.terms.domain,
        "mode": policy.tls_mode,
        "delivered": configured.delivered,
        "verdict": _ending(configured),
        "policy": {
            "resource": policy.resource,
            "domains": list(policy.domains),
            "minVersion": policy.min_version,
            "ciphers": policy.ciphers or "",
            "names": list(policy.names),
            "caLists": list(policy.ca_lists) if policy.ca_lists or policy.restricts_ca_lists else None,
            "authorities": len(survey.terms.trust.authorities),
            "clientCertificate": survey.terms.certificate is not None,
        },
        "problem": _failure(survey.problem) if survey.problem else None,
        "nextHops": [_stop(one, policy.tls_mode, now) for one in survey.stops],
        "modes": [
            {
                "mode": mode,
                "meaning": explanations.MODES[mode],
                "configured": mode == policy.tls_mode,
                **_ending(survey.endings[mode]),
            }
            for mode in MODES
        ],
    }


def _ending(ending: Ending) -> Values:
    target, checked = ending.target, ending.checked
    if target is None:
        failure = ending.failure or Failure(False, "4.0.0", "")
        bounces = ending.decision is Decision.BOUNCE
        return {
            "delivered": False,
            "result": outcomes_table.word(failure.event) if failure.event else Reason.UNREACHABLE,
            "then": _BOUNCES if bounces else _WAITS,
            **_failure(failure),
        }
    found: Values = {
        "delivered": True,
        "result": str(Reason.DELIVERED),
        "encrypted": ending.decision is Decision.ENCRYPTED,
        "verified": ending.verified,
        "host": target.host.label,
        "address": target.address,
    }
    if checked is not None and checked.reference is not None:
        found |= {
            "matchedName": names.normalised(checked.reference.name),
            "nameSource": checked.reference.source,
        }
    elif checked is not None:
        found["notVerified"] = f"{checked.event}: {checked.detail}"
    return found


def _failure(failure: Failure) -> Values:
    return {
        "status": failure.status,
        "reason": failure.text,
        "host": failure.host,
        "address": failure.address,
        "meaning": explanations.meaning(failure.event) if failure.event else "",
    }


def _stop(stop: Stop, mode: ResolvedTLSMode, now: float) -> Values:
    host = stop.host
    return {
        "host": host.label,
        "port": host.port,
        "by": _by(host),
        "priority": host.priority,
        "implicitTLS": host.implicit_tls,
        "signIn": bool(host.auth_file),
        "addresses": stop.addresses or ([host.address] if host.address else []),
        "problem": _failure(stop.problem) if stop.problem else None,
        "connections": [_seen(one, mode, now) for one in stop.seen],
    }


def _by(host: NextHost) -> str:
    return host.by if host.name or host.by == "Route" else "Literal"


def _seen(seen: Seen, mode: ResolvedTLSMode, now: float) -> Values:
    cipher = seen.session.cipher() if seen.session is not None else None
    return {
        "address": seen.target.address,
        "port": seen.target.host.port,
        "from": seen.local_address,
        "minVersion": seen.min_version,
        "replies": [{"to": to or "connection", "reply": str(reply)} for to, reply in seen.replies],
        "met": [
            {
                "event": one.event.name,
                "said": str(one.event),
                "detail": one.detail,
                "fine": _is_fine(one.event),
            }
            for one in seen.events
        ],
        "tls": None
        if seen.session is None
        else {
            "protocol": seen.session.version() or "",
            "cipher": cipher[0] if cipher else "",
            "sni": seen.target.host.name,
            "chain": _chain(seen.session.get_unverified_chain(), now),
            "checked": _by_names(seen.checked, mode),
        },
    }


def _is_fine(event: Event) -> bool:
    return event in {Event.STARTTLS_OFFERED, Event.ENCRYPTED, Event.VERIFIED}


def _chain(presented: Sequence[bytes], now: float) -> list[Values]:
    found: list[Values] = []
    for der in presented[:_MAX_PRESENTED]:
        try:
            one = authorities.load_der(der)
            found.append(_certificate(one, now))
        except authorities.PARSE_ERRORS as error:
            found.append({"subject": f"(cannot be read: {error})"})
    return found


def _certificate(one: x509.Certificate, now: float) -> Values:
    days = (one.not_valid_after_utc - datetime.fromtimestamp(now, UTC)).days
    return {
        "subject": chains.shown(one.subject),
        "issuer": chains.shown(one.issuer),
        "notBefore": one.not_valid_before_utc.isoformat(),
        "notAfter": one.not_valid_after_utc.isoformat(),
        "days": days,
    }


def _by_names(checked: Mapping[ResolvedTLSMode, Checked], mode: ResolvedTLSMode) -> list[Values]:
    """What the check came to, once for all modes that look for the same names; the configured mode's first."""
    grouped: dict[tuple[str, ...], Values] = {}
    order: list[ResolvedTLSMode] = [
        *(one for one in VERIFYING if one == mode),
        *(one for one in VERIFYING if one != mode),
    ]
    for one in order:
        if one not in checked:
            continue
        result = checked[one]
        asked = tuple(f"{names.normalised(name.name)} ({name.source})" for name in result.asked)
        known = grouped.get(asked)
        if known is not None:
            known["modes"].append(one)
            continue
        presented = result.presented
        grouped[asked] = {
            "modes": [one],
            "asked": [{"name": names.normalised(name.name), "source": name.source} for name in result.asked],
            "presented": list(presented.names) if presented else [],
            "commonName": presented.common_name if presented else False,
            "event": result.event.name,
            "result": str(result.event),
            "detail": result.detail,
            "verified": result.event is Event.VERIFIED,
            "meaning": explanations.meaning(result.event),
        }
    return list(grouped.values())
