"""What a Secret with a key that is kept here holds: the pair in use, and what is prepared to follow it.

Read by `making`, `signing` and `bringing`; written by `issuing`, which uses the same names.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from letterlock_api.certificate import CertificateSpec
from letterlock_api.conditions import Reason, Type
from letterlock_operator.decide import chains
from letterlock_operator.decide.chains import Chain, Refused
from letterlock_operator.decide.verdicts import Verdict, false, unknown
from letterlock_operator.world import Keep, Unreadable, World

# In the Secret of a gateway's internal CA.
INTERNAL_CA_KEY: Final = "ca.key"
KEY, CERTIFICATE, REQUEST, INPUTS = "tls.key", "tls.crt", "tls.csr", "inputs"
NEXT_KEY, NEXT_CERTIFICATE, NEXT_REQUEST, NEXT_INPUTS = "next.key", "next.crt", "next.csr", "next.inputs"
CA_CERTIFICATES: Final = "ca.crt"

# A certificate that begins later than this was made by a clock that has been set back since.
_CLOCK_TOLERANCE: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Held:
    """A Secret of ours, read."""

    keep: Keep
    key: bytes
    """PEM; empty: it has none that can be read."""
    chain: Chain | None
    """The pair in use; None: there is none that fits together."""
    next_chain: Chain | None
    """The prepared next pair."""

    @property
    def inputs(self) -> str:
        """What the pair in use, or its request, was made from."""
        return self._text(INPUTS)

    @property
    def request(self) -> str:
        """The request for the key in use, PEM."""
        return self._text(REQUEST)

    @property
    def next_inputs(self) -> str:
        """What the prepared pair, or its request, was made from."""
        return self._text(NEXT_INPUTS)

    @property
    def next_request(self) -> str:
        """The request that waits to be signed in place of `request`; empty: none."""
        return self._text(NEXT_REQUEST)

    @property
    def next_key(self) -> bytes:
        """The key of the prepared pair or request, PEM: the one in use unless there is another."""
        return self.keep.data.get(NEXT_KEY) or self.key

    def _text(self, key: str) -> str:
        return self.keep.data.get(key, b"").decode("ascii", "replace")


def read(secret: str, owner: str, world: World) -> Held | Verdict | None:
    """The Secret of `owner` (`Kind/name`); a verdict where it cannot be used as that; None where it is not there."""
    match world.secrets.get(secret):
        case None:
            return None
        case Unreadable() as present:
            text = f"Secret {secret} cannot be read: {present.problem}"
            return unknown(Type.READY, (Reason.PENDING, text))
        case Keep() as present if not present.ours:
            text = f"Secret {secret} exists and is not ours: rename the Certificate, or remove that Secret"
            return false(Type.READY, (Reason.NAME_TAKEN, text))
        case Keep() as present if present.owner != owner:
            # `mx` of member `default-0` and a Certificate `mx-default-0`: each would replace the other's key for ever.
            text = f"Secret {secret} belongs to {present.owner}: rename one of the two"
            return false(Type.READY, (Reason.NAME_TAKEN, text))
        case Keep() as present:
            key = present.data.get(KEY, b"")
            following = present.data.get(NEXT_CERTIFICATE, b"")
            return Held(
                present,
                key if _is_key(key) else b"",
                _pair(key, present.data.get(CERTIFICATE, b"")),
                _pair(present.data.get(NEXT_KEY) or key, following) if following else None,
            )


def renewal_time(spec: CertificateSpec, chain: Chain) -> datetime:
    """When the renewal of `chain` starts."""
    ahead = (
        timedelta(days=spec.renewal.before_days)
        if spec.renewal.before_days
        else (chain.end - chain.start) / 3
    )
    # Never at once after issuing, whatever beforeDays says: that would renew without end.
    return max(chain.end - ahead, chain.start + (chain.end - chain.start) / 10)


def is_due(spec: CertificateSpec, chain: Chain, now: datetime) -> bool:
    """Whether `chain` is to be replaced now: near its end, or made by a clock that was ahead."""
    if spec.renewal.mode == "Never":
        return False
    return renewal_time(spec, chain) <= now or chain.start > now + _CLOCK_TOLERANCE


def _pair(key: bytes, certificate: bytes) -> Chain | None:
    try:
        return chains.read(key, certificate)
    except Refused:
        return None


def _is_key(pem: bytes) -> bool:
    try:
        chains.public_key(pem)
    except Refused:
        return False
    return True
