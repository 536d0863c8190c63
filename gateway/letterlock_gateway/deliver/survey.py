"""Goes where mail for a domain would go, as far as it can without sending any: the legs of `letterlock check`.

Routing, look-ups, connections and the check of certificates are delivery's own; only the judgement is another
(`verdicts`): nothing stops it before it must, so that one connection tells what every mode would do. Called by
`manage.checking`.
"""

import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from letterlock_api.destinationcontrol import TLSVersion, default_min_version
from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway.deliver import checks, failures, outcomes_table, routing, verdicts
from letterlock_gateway.deliver.checks import Checked
from letterlock_gateway.deliver.connecting import Connector, GivenUp, peer_of
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.lookups import Lookups
from letterlock_gateway.deliver.nexthops import NextHost, NotNow, Undeliverable
from letterlock_gateway.deliver.outcomes_table import Event
from letterlock_gateway.deliver.replies import Reply
from letterlock_gateway.deliver.routing import Target
from letterlock_gateway.deliver.terms import Terms, Timeouts
from letterlock_gateway.deliver.tracing import Trace
from letterlock_gateway.deliver.verdicts import MODES, VERIFYING, Ending, Met, Way
from letterlock_gateway.deliver.wire import Wire
from letterlock_gateway.report.log import Log

_QUIET: Final = Log(write=lambda _: None)
# Of all modes the one that gives up last: TLS where it can be had, the certificate looked at, and on whatever it is.
_THE_FURTHEST: Final[ResolvedTLSMode] = "PreferredVerify"
_REACHED_TLS: Final = frozenset(
    {Event.ENCRYPTED, Event.LOST_AFTER_220, Event.HANDSHAKE_FAILED, Event.PARAMETERS_REFUSED}
)
# Seconds for QUIT and its reply.
_FAREWELL: Final = 5.0


@dataclass
class Seen(Trace):
    """What was seen at one address, over one connection (or two, where the first was lost before the 220)."""

    target: Target
    min_version: TLSVersion
    local_address: str = ""
    replies: list[tuple[str, Reply]] = field(default_factory=list[tuple[str, Reply]])
    """Command (empty: the greeting) and what came back."""
    events: list[Met] = field(default_factory=list[Met])
    session: ssl.SSLObject | None = None
    checked: dict[ResolvedTLSMode, Checked] = field(default_factory=dict[ResolvedTLSMode, Checked])
    wires: list[Wire] = field(default_factory=list[Wire])
    _anew: bool = False

    def begins(self, *, in_clear: bool) -> None:  # noqa: D102 - see Trace, here and below
        self._anew = in_clear

    def connected(self, wire: Wire) -> None:  # noqa: D102
        self.local_address = wire.local_address
        self.wires.append(wire)

    def replied(self, to: str, reply: Reply) -> None:  # noqa: D102
        if not self._anew:
            self.replies.append((to, reply))

    def met(self, event: Event, detail: str = "") -> None:  # noqa: D102
        if not self._anew:
            self.events.append(Met(event, detail))

    def encrypted(self, session: ssl.SSLObject) -> None:  # noqa: D102
        self.session = session

    def given_up(self, failure: Failure) -> None:  # noqa: D102
        if failure.event is None:
            return
        told = Met(failure.event, failure.text.removeprefix(str(failure.event)).removeprefix(": "))
        if self.events and self.events[-1].event is told.event:
            self.events.pop()
        self.events.append(told)


@dataclass
class Stop:
    """One next hop."""

    host: NextHost
    addresses: list[str] = field(default_factory=list[str])
    problem: Failure | None = None
    """Why it has no address."""
    seen: list[Seen] = field(default_factory=list[Seen])
    """What was seen at its addresses, as far as there was reason to go there."""


@dataclass
class Survey:
    """All that was found out, and what it means."""

    terms: Terms
    stops: list[Stop] = field(default_factory=list[Stop])
    problem: Failure | None = None
    """Why there are no next hops."""
    endings: dict[ResolvedTLSMode, Ending] = field(default_factory=dict[ResolvedTLSMode, Ending])
    """By mode."""


@dataclass(frozen=True)
class _Surveyor:
    terms: Terms
    lookups: Lookups
    timeouts: Timeouts
    clock: Callable[[], float]
    new_dcid: Callable[[], int] = field(default_factory=lambda: count(1).__next__)

    async def visit(self, target: Target) -> tuple[list[Seen], Mapping[ResolvedTLSMode, Way]]:
        """What there is to see at one address, and what each mode would meet there."""
        by_version: dict[TLSVersion, Seen] = {}
        policy = self.terms.policy
        ways: dict[ResolvedTLSMode, Way] = {}
        first = by_version[policy.min_version] = await self._go(target, policy.min_version)
        for mode in MODES:
            version = policy.min_version
            other = mode not in ("No", policy.tls_mode) and not policy.min_version_set
            if other and _depends_on_version(first, default_min_version(mode)):
                version = default_min_version(mode)
                if version not in by_version:
                    by_version[version] = await self._go(target, version)
            seen = by_version[version]
            ways[mode] = Way(target, seen.events, seen.checked)
        return list(by_version.values()), ways

    async def _go(self, target: Target, min_version: TLSVersion) -> Seen:
        terms, seen = self.terms, Seen(target, min_version)
        # By whose names it is decided whether a password may go over it.
        names = terms.policy.tls_mode if terms.policy.tls_mode in VERIFYING else VERIFYING[-1]
        policy = terms.policy.model_copy(update={"min_version": min_version, "tls_mode": names})
        connector = Connector(
            replace(terms, policy=policy),
            self.lookups,
            _QUIET,
            self.timeouts,
            self.clock,
            self.new_dcid,
            trace=seen,
            judge=lambda _, event: outcomes_table.decide(_THE_FURTHEST, event),
        )
        with contextlib.suppress(GivenUp):  # `seen` has heard of it
            await connector.connect(target)
        if seen.session is not None:
            await self._check(seen, seen.session)
        for wire in seen.wires:
            await wire.farewell(_FAREWELL)
        return seen

    async def _check(self, seen: Seen, session: ssl.SSLObject) -> None:
        terms = self.terms
        peer = peer_of(terms, seen.target, self.lookups)
        for mode in VERIFYING:
            policy = terms.policy.model_copy(update={"tls_mode": mode})
            seen.checked[mode] = await checks.check(session, policy, terms.trust, peer, self.clock())


def _depends_on_version(seen: Seen, other: TLSVersion) -> bool:
    """Whether a handshake with this lowest version could come to something else: not where it is had already."""
    met = {one.event for one in seen.events}
    if not met & _REACHED_TLS:
        return False
    return not (Event.ENCRYPTED in met and other <= seen.min_version)  # "TLSv1" < "TLSv1.1" < …


async def survey(terms: Terms, lookups: Lookups, timeouts: Timeouts, clock: Callable[[], float]) -> Survey:
    """Visit the next hops in delivery's order, until every mode has found a host or none is left."""
    found = Survey(terms)
    surveyor = _Surveyor(terms, lookups, timeouts, clock)
    given_up: dict[ResolvedTLSMode, list[Failure]] = {mode: [] for mode in MODES}
    try:
        found.stops = [Stop(host) for host in await routing.hosts(terms, lookups)]
    except (NotNow, Undeliverable) as problem:
        found.problem = failures.of_look_up(problem)
        for failed in given_up.values():
            failed.append(found.problem)
    tried = 0
    for stop in found.stops:
        if len(found.endings) == len(MODES):
            break  # delivery would not even look these up
        for target in await _targets(stop, lookups, given_up):
            if len(found.endings) == len(MODES) or (stop.host.by == "MX" and tried >= routing.MAX_TARGETS):
                break
            tried += 1
            seen, ways = await surveyor.visit(target)
            stop.seen += seen
            for mode in MODES:
                ending = verdicts.at_host(mode, ways[mode])
                if ending.failure is not None:
                    given_up[mode].append(ending.failure)
                elif mode not in found.endings:
                    found.endings[mode] = ending
    for mode in MODES:
        if mode not in found.endings:
            found.endings[mode] = verdicts.nobody(mode, given_up[mode])
    return found


async def _targets(
    stop: Stop, lookups: Lookups, given_up: Mapping[ResolvedTLSMode, list[Failure]]
) -> Sequence[Target]:
    try:
        targets = await routing.targets(stop.host, lookups)
    except (NotNow, Undeliverable) as problem:
        stop.problem = failures.of_look_up(problem, stop.host.label)
        for failed in given_up.values():
            failed.append(stop.problem)
        return []
    stop.addresses = [one.address for one in targets]
    return targets
