"""What the dates of a certificate call for: of one that nothing renews, people hear in time (C7). Pure.

Used by `certificates` and `judged_certificates`.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from letterlock_api.certificate import CertificateSpec
from letterlock_api.conditions import Reason, Type
from letterlock_operator.decide.chains import Chain
from letterlock_operator.decide.slots import Filled
from letterlock_operator.decide.verdicts import false

# Nobody renews these for us: said while there is time to act, but not while their own tools would still do it
# (cert-manager renews a third of the lifetime ahead).
SOON: Final = timedelta(days=15)
_SOON_SHARE: Final = 5


def soon(chain: Chain) -> timedelta:
    """How long before the end of a certificate that nobody renews people hear of it."""
    return min(SOON, (chain.end - chain.start) / _SOON_SHARE)


def dated(spec: CertificateSpec, filled: Filled, now: datetime) -> Filled:
    """`filled`, with what its dates call for."""
    chain = filled.chain
    if chain is None or filled.orders:
        return filled
    if chain.end <= now and filled.ready.holds:
        what = filled.expiring[1] if filled.expiring else "replace it"
        expired = (Reason.EXPIRED, f"it expired on {chain.end:%Y-%m-%d}: {what}")
        return replace(filled, ready=false(Type.READY, expired))
    renews = spec.renewal.mode == "Automatic" and not spec.brought
    if filled.expiring is not None:
        return filled
    # A signer that refuses, or never answers, lets it end as well.
    waits = f"its renewal waits: {filled.issuing[1]}" if filled.issuing is not None else ""
    if (waits or not renews) and chain.end - now <= soon(chain):
        text = f"it expires on {chain.end:%Y-%m-%d}, and {waits or 'nothing renews it here: replace it'}"
        return replace(filled, expiring=(Reason.EXPIRING_SOON, text))
    ended = chain.ended(now + SOON)
    if ended:
        text = f"{ended}: give the certificate with the intermediates that its CA uses now"
        return replace(filled, expiring=(Reason.EXPIRING_SOON, text))
    return filled
