"""What each mode would do, from what was met on the way: the judgement of `letterlock check`. Pure.

`survey` goes as far as it can at one address after the other; here the outcome table is asked, mode by mode, where a
delivery would have ended there. tests/gateway/test_check_wire.py compares that with what delivery really does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway import values
from letterlock_gateway.deliver import failures, outcomes_table
from letterlock_gateway.deliver.checks import Checked
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.outcomes_table import Decision, Event
from letterlock_gateway.deliver.routing import Target

MODES: Final[tuple[ResolvedTLSMode, ...]] = get_args(ResolvedTLSMode)
VERIFYING: Final[tuple[ResolvedTLSMode, ...]] = tuple(
    mode for mode in MODES if outcomes_table.decide(mode, Event.ENCRYPTED) is Decision.CHECK
)
_NO_SIGN_IN: Final = (
    "the route wants a sign-in, a password goes only over verified TLS, and this is none under this mode"
)
_SIGN_IN: Final = frozenset({Event.SIGN_IN_NOT_OFFERED, Event.SIGN_IN_REFUSED})


@values.value
class Met:
    """One event, for the outcome table and for people."""

    event: Event
    detail: str = ""


@dataclass(frozen=True)
class Way:
    """What one address did to a delivery that went as far as it could."""

    target: Target
    met: Sequence[Met]
    """In order, without the check of the certificate."""
    checked: Mapping[ResolvedTLSMode, Checked] = field(default_factory=dict[ResolvedTLSMode, Checked])
    """What looking at the certificate came to, by verifying mode; empty: there was no handshake."""

    def under(self, mode: ResolvedTLSMode) -> list[Met]:
        """What a delivery under `mode` would have met here."""
        found: list[Met] = []
        for one in self.met:
            if one.event in _SIGN_IN:
                continue  # below, for each mode
            found.append(one)
            if one.event is Event.ENCRYPTED and mode in self.checked:
                checked = self.checked[mode]
                found.append(Met(checked.event, checked.detail))
            if mode == "No" and one.event is Event.STARTTLS_OFFERED:
                break  # it asks for no TLS, and meets nothing of what comes of that
        ended = outcomes_table.follow(
            mode, [one.event for one in found], implicit_tls=self.target.host.implicit_tls
        )[1]
        return found if ended is not None else [*found, *self._sign_in(mode)]

    def _sign_in(self, mode: ResolvedTLSMode) -> list[Met]:
        if not self.target.host.auth_file:
            return []
        if mode not in self.checked or self.checked[mode].event is not Event.VERIFIED:
            return [Met(Event.SIGN_IN_NOT_OFFERED, _NO_SIGN_IN)]
        return [one for one in self.met if one.event in _SIGN_IN]


@dataclass(frozen=True)
class Ending:
    """Where a delivery under one mode ends: at a host that mail may be sent to, or nowhere."""

    mode: ResolvedTLSMode
    decision: Decision
    target: Target | None = None
    """Who would get the mail; None: nobody."""
    checked: Checked | None = None
    """Of the certificate there, under a mode that checks."""
    failure: Failure | None = None
    """Why nobody gets it."""

    @property
    def delivered(self) -> bool:
        """Whether mail would be sent."""
        return self.target is not None

    @property
    def verified(self) -> bool:
        """Whether it would be sent to a host whose certificate was verified."""
        return self.checked is not None and self.checked.event is Event.VERIFIED


def at_host(mode: ResolvedTLSMode, way: Way) -> Ending:
    """Where a delivery under `mode` ends at this address."""
    met = way.under(mode)
    decision, ended = outcomes_table.follow(
        mode, [one.event for one in met], implicit_tls=way.target.host.implicit_tls
    )
    if ended is None:
        encrypted = decision is Decision.ENCRYPTED
        return Ending(mode, decision, way.target, way.checked.get(mode) if encrypted else None)
    failure = Failure.of_event(
        met[ended].event, met[ended].detail, host=way.target.host.label, address=way.target.address
    )
    return Ending(mode, decision, failure=failure)


def nobody(mode: ResolvedTLSMode, met: Sequence[Failure]) -> Ending:
    """No host would get the mail, for these reasons."""
    failure = failures.reported(list(met))
    return Ending(mode, Decision.BOUNCE if failure.permanent else Decision.WAIT, failure=failure)
