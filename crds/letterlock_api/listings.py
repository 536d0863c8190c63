"""CA lists as text files: PEM with a readable heading per CA, to be edited and imported again (A4). Pure.

Called by the operator's exports, by the commands that export and import, and by the management pages.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from letterlock_api.authorities import Role


class Listed(Protocol):
    """A certificate of a list, as its heading needs it."""

    @property
    def subject(self) -> str: ...  # noqa: D102 - RFC 4514
    @property
    def not_before(self) -> datetime: ...  # noqa: D102 - aware
    @property
    def not_after(self) -> datetime: ...  # noqa: D102 - aware
    @property
    def fingerprint(self) -> str: ...  # noqa: D102 - sha256, lower-case hex
    @property
    def role(self) -> Role: ...  # noqa: D102 - what it counts as
    @property
    def pem(self) -> bytes: ...  # noqa: D102 - the certificate


_ROLES: Final[Mapping[Role, str]] = {
    Role.ROOT: "root CA",
    Role.INTERMEDIATE: "intermediate CA",
    Role.PINNED: "trusted for itself only",
}


def role(entry: Listed) -> str:
    """What it counts as, for people."""
    return _ROLES.get(entry.role, str(entry.role))


def text(name: str, entries: Sequence[Listed]) -> str:
    """The list `name` as a text file. Importing it gives `entries` again, whatever stands in their names."""
    count = f"{len(entries)} certificate{'' if len(entries) == 1 else 's'}"
    parts = [
        f"# CA list {name}, {count}.",
        "# Edit it and import it again: only the blocks between BEGIN and END count.",
    ]
    for one in sorted(entries, key=lambda one: (one.subject.lower(), one.fingerprint)):
        parts += [
            "",
            f"# Subject: {_one_line(one.subject) or '(none)'}",
            f"# Valid: {one.not_before:%Y-%m-%d} to {one.not_after:%Y-%m-%d}",
            f"# Fingerprint (sha256): {one.fingerprint}",
            f"# Counts as: {role(one)}",
            one.pem.decode().rstrip(),
        ]
    return "\n".join(parts) + "\n"


def _one_line(subject: str) -> str:
    """Names come from strangers: a line break in one must not begin a block."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in subject)
