"""Address patterns: `user@domain`, `domain`, `.domain` (everything below it), `user@` (any domain). Pure.

Used for the recipient access table and for senders that must use TLS.
"""

from collections.abc import Iterable

from letterlock_gateway.spool import domain_of


class Patterns:
    """An ordered table; a look-up costs the number of labels in the domain, not the length of the table."""

    def __init__(self, rows: Iterable[Iterable[str]]) -> None:
        """Each row is a list of patterns; rows have their number in order."""
        self._rows: dict[str, int] = {}
        for number, row in enumerate(rows):
            for pattern in row:
                self._rows.setdefault(_normal(pattern), number)

    def first(self, local: str, domain: str) -> int | None:
        """The first row that matches. `domain` in lower case and A-labels, as `domain_of` gives it."""
        if not self._rows:
            return None
        local = local.lower()
        keys = [f"{local}@{domain}", f"{local}@", domain]
        dot = domain.find(".")
        while dot >= 0:
            keys.append(domain[dot:])
            dot = domain.find(".", dot + 1)
        found = [self._rows[key] for key in keys if key in self._rows]
        return min(found) if found else None

    def has_address(self, local: str, domain: str) -> bool:
        """Whether the very address is in the table, not only its domain or user."""
        return f"{local.lower()}@{domain}" in self._rows


def _normal(pattern: str) -> str:
    local, at, domain = pattern.rpartition("@")
    dot = "." if domain.startswith(".") else ""
    return f"{local.lower()}{at}{dot}{domain_of('@' + domain.removeprefix('.'))}"
