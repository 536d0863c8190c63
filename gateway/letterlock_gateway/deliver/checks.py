"""Checks a receiving host's certificate after the handshake: chain, dates, names. Called by `connecting`."""

import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from letterlock_api import authorities
from letterlock_api.conditions import Reason
from letterlock_api.snapshot import Destination
from letterlock_gateway import values
from letterlock_gateway.deliver import references
from letterlock_gateway.deliver.outcomes_table import Event
from letterlock_gateway.deliver.references import Reference
from letterlock_gateway.tls import names, verify
from letterlock_gateway.tls.names import Presented
from letterlock_gateway.tls.trust import TrustStore
from letterlock_gateway.tls.verify import Verdict

# Of a chain, as `tls.verify` does.
_MAX_PRESENTED: Final = 16
Look = Callable[[], Awaitable[Sequence[str]]]


@values.value
class Checked:
    """What the check came to."""

    event: Event
    """VERIFIED, NOT_TRUSTED, EXPIRED or NAME_MISMATCH."""
    detail: str
    """For people."""
    reference: Reference | None = None
    """The name that matched."""
    asked: tuple[Reference, ...] = ()
    """The names that were looked for."""
    presented: Presented | None = None
    """The names in the certificate; None: they cannot be read."""


@values.value
class Peer:
    """The host that is checked: what it may be called. Names that cost a look-up are looked up when needed."""

    domain: str
    """The recipient domain."""
    route: str
    """Name of the route's host; empty: no route, or an address."""
    mx_names: Look
    reverse_names: Look


async def check(
    session: ssl.SSLObject, policy: Destination, trust: TrustStore, peer: Peer, now: float
) -> Checked:
    """Judge the certificate of `session` at `now` (Unix seconds)."""
    chain = session.get_unverified_chain()
    moment = datetime.fromtimestamp(now, UTC)
    verdict = verify.verify_chain(chain, trust, moment)
    try:
        presented = verify.presented_names(chain[0]) if chain else None
    except ValueError as error:
        if verdict.trusted:
            return Checked(Event.NAME_MISMATCH, f"the names in the certificate cannot be read: {error}")
        presented = None
    hosted = policy.tls_mode == "RequiredVerifyHostedDomains" and not policy.names and not peer.route
    wanted = references.wanted(
        policy.tls_mode,
        domain=peer.domain,
        explicit=policy.names,
        route=peer.route,
        mx=await peer.mx_names() if hosted else (),
    )
    if not verdict.trusted or presented is None:
        shown = f"; {references.mismatch(wanted, presented)}" if presented else ""
        event = _chain_event(verdict, chain, trust, moment)
        return Checked(event, f"{verdict.detail}{shown}", asked=wanted, presented=presented)
    found = references.first_match(wanted, presented)
    if found is None and references.reverse_counts(policy.tls_mode, policy.names, presented):
        more = tuple(Reference(name, "Reverse") for name in await peer.reverse_names())
        wanted += more
        found = references.first_match(more, presented)
    if found is None:
        detail = references.mismatch(wanted, presented)
        return Checked(Event.NAME_MISMATCH, detail, asked=wanted, presented=presented)
    detail = f"name {names.normalised(found.name)} matches"
    return Checked(Event.VERIFIED, detail, found, wanted, presented)


def _chain_event(verdict: Verdict, chain: Sequence[bytes], trust: TrustStore, now: datetime) -> Event:
    """Which of the table's events a chain that is not trusted is. For people: the decision is the same."""
    try:
        presented = [authorities.load_der(one) for one in chain[:_MAX_PRESENTED]]
    except ValueError:
        return Event.NOT_TRUSTED
    if verdict.reason == Reason.EXPIRED:
        early = any(one.not_valid_before_utc > now for one in presented)
        late = any(one.not_valid_after_utc < now for one in presented)
        return Event.NOT_YET_VALID if early and not late else Event.EXPIRED
    if not presented:
        return Event.NOT_TRUSTED
    last = presented[0]
    if last.issuer == last.subject:
        return Event.SELF_SIGNED
    known = {one.subject for one in (*presented, *trust.authorities)}
    by_subject = {one.subject: one for one in presented}
    for _ in presented:
        if last.issuer not in known:
            return Event.ISSUER_MISSING
        last = by_subject.get(last.issuer, last)
    return Event.NOT_TRUSTED
