"""For whom a listener takes mail: default domain, domain map, recipient access table, in this order (L8).

Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from letterlock_api.snapshot import RecipientRule
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.paths import Path
from letterlock_gateway.receive.patterns import Patterns
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.spool import domain_of

# Where the part before the last @ routes further: user@elsewhere@here, user%elsewhere@here,
# elsewhere!user@here.
_ROUTING = frozenset("@%!")
# RFC 5321 section 4.5.1: whoever takes mail for a domain takes it for its postmaster.
POSTMASTER: Final = "postmaster"


class Recipients:
    """One listener's rules."""

    def __init__(
        self,
        rules: Sequence[RecipientRule],
        *,
        default_domain: str | None = None,
        domain_map: Mapping[str, str] | None = None,
        postmaster: str,
    ) -> None:
        """`postmaster`: the address that mail to the bare `postmaster` goes to."""
        self._default_domain = default_domain or ""
        self._map = {_map_key(name): to for name, to in (domain_map or {}).items()}
        self._patterns = Patterns(rule.match for rule in rules)
        self._served = Patterns(_domains(rule.match) for rule in rules)
        self._accepts = [rule.accept for rule in rules]
        self._mailboxes = _domains_of_mailboxes(rules)
        self._refusals = [None if rule.accept else replies.recipient_rejected(rule.text) for rule in rules]
        self._postmaster = postmaster

    def resolve(self, path: Path, *, relay: bool) -> str | Reply:
        """The address that mail to `path` goes to, or the refusal. `relay`: any recipient will do."""
        if not path.domain and path.local.lower() == POSTMASTER:
            return self._postmaster
        path = self.completed(path)
        if not path.domain:
            return replies.RECIPIENT_NEEDS_DOMAIN
        domain = domain_of("@" + path.domain)
        if self._map and (to := self._mapped(domain)) is not None:
            path, domain = Path(path.local, to), domain_of("@" + to)
        return path.address if relay else self._refused(path.local, domain) or path.address

    def completed(self, path: Path) -> Path:
        """`path`, with the default domain where it has none."""
        return path if path.domain or not path.local else Path(path.local, self._default_domain)

    def _refused(self, local: str, domain: str) -> Reply | None:
        if local.lower() == POSTMASTER and self._serves(domain):
            return None
        row = self._patterns.first(local, domain)
        if row is None:
            return replies.RELAYING_DENIED
        if not _ROUTING.isdisjoint(local) and not self._patterns.has_address(local, domain):
            return replies.ROUTED_ADDRESS
        return self._refusals[row]

    def _serves(self, domain: str) -> bool:
        """Whether mail for anybody in `domain` is taken."""
        row = self._served.first("", domain)
        return self._accepts[row] if row is not None else domain in self._mailboxes

    def _mapped(self, domain: str) -> str | None:
        to = self._map.get(domain)
        dot = domain.find(".")
        while to is None and dot >= 0:
            to = self._map.get(domain[dot:])
            dot = domain.find(".", dot + 1)
        return to


def _map_key(name: str) -> str:
    dot = "." if name.startswith(".") else ""
    return dot + domain_of("@" + name.removeprefix("."))


def _domains(patterns: Sequence[str]) -> list[str]:
    """Those that are about a whole domain."""
    return [one for one in patterns if "@" not in one]


def _domains_of_mailboxes(rules: Sequence[RecipientRule]) -> frozenset[str]:
    """Domains in which single mailboxes are accepted."""
    accepted = [one for rule in rules if rule.accept for one in rule.match]
    return frozenset(domain_of(one) for one in accepted if "@" in one and not one.endswith("@"))
