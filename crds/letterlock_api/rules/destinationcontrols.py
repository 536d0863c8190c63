"""Rules for DestinationControls."""

from typing import Any, Final

from letterlock_api.base import parse_duration
from letterlock_api.destinationcontrol import DestinationControlSpec, RecipientRate
from letterlock_api.rules.rule import Rule

_VERIFYING: Final = ("PreferredVerify", "RequiredVerify", "RequiredVerifyHostedDomains")
# What the entry for everything cannot be: it has nothing to inherit from, and no domain to name.
_NOT_FOR_ALL: Final = ("Default", "RequiredVerifyHostedDomains")


def _listed(words: tuple[str, ...]) -> str:
    return f"[{', '.join(f"'{word}'" for word in words)}]"


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule[DestinationControlSpec](
        "spec",
        "!('*' in self.domains) || self.domains.size() == 1",
        "'*' is the default entry and stands alone in domains: put the other domains into another resource",
        lambda spec: "*" not in spec.domains or len(spec.domains) == 1,
    ),
    Rule[DestinationControlSpec](
        "spec",
        f"!('*' in self.domains) || !(self.tls.mode in {_listed(_NOT_FOR_ALL)})",
        "the entry '*' needs another tls.mode: No, Preferred, Required, PreferredVerify or RequiredVerify",
        lambda spec: "*" not in spec.domains or spec.tls.mode not in _NOT_FOR_ALL,
    ),
    Rule[DestinationControlSpec](
        "spec",
        "!has(self.routing) || self.routing != 'Routes' || has(self.routes) && self.routes.size() > 0",
        "routing Routes needs routes: name at least one next hop",
        lambda spec: spec.routing != "Routes" or bool(spec.routes),
    ),
    Rule[DestinationControlSpec](
        "spec",
        "!has(self.routing) || self.routing == 'Routes' || !has(self.routes) || self.routes.size() == 0",
        "routes count only with routing Routes: remove them, or set routing: Routes",
        lambda spec: spec.routing in {None, "Routes"} or not spec.routes,
    ),
    Rule[DestinationControlSpec](
        "spec",
        f"self.tls.mode in {_listed(_VERIFYING)} || !has(self.routes) || !self.routes.exists(r, has(r.auth))",
        "a password goes only over verified TLS: set a tls.mode that verifies"
        f" ({', '.join(_VERIFYING)}), or remove auth",
        lambda spec: spec.tls.mode in _VERIFYING or not any(route.auth for route in spec.routes),
    ),
    Rule[DestinationControlSpec](
        "spec",
        "self.tls.mode != 'No' || !has(self.routes) || !self.routes.exists(r, r.implicitTLS)",
        "tls.mode No and implicitTLS contradict each other: remove one of them",
        lambda spec: spec.tls.mode != "No" or not any(route.implicit_tls for route in spec.routes),
    ),
    Rule[RecipientRate](
        "spec.limits.recipients",
        "duration(self.period) > duration('0s')",
        "the period must be longer than nothing",
        lambda rate: parse_duration(rate.period).total_seconds() > 0,
    ),
)
