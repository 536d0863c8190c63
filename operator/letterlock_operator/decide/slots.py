"""What is judged of one key and certificate: one at Cluster level, one per member at Machine level."""

from dataclasses import dataclass, field
from datetime import datetime

from letterlock_api.conditions import Reason, Type
from letterlock_operator.decide.chains import Chain
from letterlock_operator.decide.verdicts import Finding, Verdict, false, true
from letterlock_operator.plan import Issue, Request, SecretOrder

READY = true(Type.READY, Reason.ISSUED)
MAKING: Finding = (Reason.ISSUING, "its key and certificate are being made")


@dataclass(frozen=True)
class Slot:
    """One place for a key and certificate, and what a self-signed one in it would be made from."""

    certificate: str
    """Name of the Certificate; empty: the demo certificate."""
    member: str
    """Empty at Cluster level."""
    secret: str
    order: Issue


@dataclass(frozen=True)
class Filled:
    """What is in a slot, and what shall happen to it."""

    ready: Verdict = READY
    chain: Chain | None = None
    """What can be served."""
    orders: tuple[SecretOrder, ...] = ()
    """At most one: the next is decided on what became of it."""
    request: str = ""
    """To be signed by a CA, PEM."""
    following: Chain | None = None
    """The prepared next one."""
    asks: tuple[Request, ...] = ()
    issuing: Finding | None = None
    """What is under way, while the present one serves on."""
    expiring: Finding | None = None
    """What people have to do before it ends."""
    wakes: tuple[datetime, ...] = field(default=())
    """When to decide again even if nothing happens."""
    renewal: datetime | None = None
    failed_attempts: int = 0
    next_attempt: datetime | None = None


def nothing(finding: Finding, *orders: SecretOrder) -> Filled:
    """An empty slot, for the time being."""
    return Filled(false(Type.READY, finding), orders=orders)
