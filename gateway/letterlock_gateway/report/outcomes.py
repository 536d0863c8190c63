"""What deliveries came to, per DestinationControl: the last TLS result, and the domains that fail now.

Recorded by `deliver` in each worker; the worker hands what changed to the supervisor, which merges the
workers' (`manage.merging`) for the member's state.
"""

from collections.abc import Callable
from typing import Final

from letterlock_api.destinationcontrol import FailingDomain, LastTLS
from letterlock_api.state import DestinationState
from letterlock_gateway.report.tls_failures import TLSFailures

DELIVERED: Final = "Delivered"
# The status shows 10. More are remembered, so that the list fills up again as domains recover; a bound,
# because a resource for `*` meets any number of domains while the network is down.
_REMEMBERED: Final = 200
SHOWN: Final = 10


class Outcomes:
    """Last TLS result and failing domains per DestinationControl. Called from one event loop."""

    def __init__(self) -> None:
        self._last: dict[str, LastTLS] = {}
        self._failing: dict[str, dict[str, FailingDomain]] = {}
        self._changed: set[str] = set()
        self.required_tls = TLSFailures()
        """Where TLS is required and failed: what alerts tell of."""

    def record(self, resource: str, last: LastTLS) -> None:
        """A delivery attempt ended: `last.result` is Delivered, or the reason (a CamelCase word) why not.

        `resource`: the DestinationControl that the domain belongs to; empty: the built-in default.
        """
        self._last[resource] = last
        failing = self._failing.setdefault(resource, {})
        known = failing.get(last.domain)
        if last.result == DELIVERED:
            failing.pop(last.domain, None)
        elif known is not None or len(failing) < _REMEMBERED:
            since = known.since if known else last.time
            failing[last.domain] = FailingDomain(domain=last.domain, reason=last.result, since=since)
        self._changed.add(resource)

    def settled(self, resource: str, domain: str) -> None:
        """No mail waits for `domain` any more (bounced, say): it does not fail from now on."""
        if self._failing.get(resource, {}).pop(domain, None):
            self._changed.add(resource)

    def reassign(self, owner: Callable[[str], str]) -> None:
        """Forget what no longer belongs where it was recorded (a new snapshot). `owner`: of a domain."""
        for resource, last in list(self._last.items()):
            if owner(last.domain) != resource:
                del self._last[resource]
                self._changed.add(resource)
        for resource, failing in self._failing.items():
            for domain in [domain for domain in failing if owner(domain) != resource]:
                del failing[domain]
                self._changed.add(resource)

    def states(self) -> list[DestinationState]:
        """All of them, sorted by resource; failing domains in the order in which they began to fail."""
        return [self._state(resource) for resource in sorted(self._last.keys() | self._failing.keys())]

    def take_changed(self) -> list[DestinationState]:
        """Those that changed since this was last asked. A forgotten one has neither result nor domains."""
        changed, self._changed = self._changed, set()
        return [self._state(resource) for resource in sorted(changed)]

    def _state(self, resource: str) -> DestinationState:
        failing = sorted(self._failing.get(resource, {}).values(), key=lambda one: (one.since, one.domain))
        return DestinationState(resource=resource, last_tls=self._last.get(resource), failing=failing)
