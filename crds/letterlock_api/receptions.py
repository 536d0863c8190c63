"""What a listener's policies come to as a whole: said by statuses, and by the management pages. Pure."""

from collections.abc import Mapping, Sequence
from typing import Literal

from letterlock_api.listener import ReceptionTLSMode
from letterlock_api.snapshot import AccessGroup, ReceptionPolicy


def reachable(policies: Sequence[ReceptionPolicy], rows: Sequence[AccessGroup]) -> dict[str, ReceptionPolicy]:
    """The policies under which mail can come in at all."""
    named = {row.policy for row in rows}
    return {one.name: one for one in policies if one.name in named and one.behavior in ("Accept", "Relay")}


def summary(policies: Mapping[str, ReceptionPolicy]) -> Literal["No", "Preferred", "Required", "Mixed"]:
    """The TLS setting in one word."""
    modes: list[ReceptionTLSMode] = sorted({one.tls_mode for one in policies.values()})
    if len(modes) > 1:
        return "Mixed"
    return modes[0] if modes else "No"
