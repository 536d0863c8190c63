"""htpasswd files with bcrypt hashes: who may sign in to the management pages, and what is wrong with such a file.

Operator and members read them by this one module: what a condition says of a user is what a sign-in does. Pure;
passwords are checked elsewhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# A bcrypt hash as `htpasswd -B`, PHP and Python's bcrypt write it: version, cost, 22 letters of salt, 31 of hash.
_BCRYPT: Final = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
MAX_COST: Final = 14
"""Every step doubles the time: 14 is a second of processor time for each sign-in."""
MIN_COST: Final = 4
MAX_USERS: Final = 1000
MAX_NAME: Final = 128


@dataclass(frozen=True)
class Users:
    """Who may sign in."""

    hashes: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """bcrypt hash by user name."""
    problems: tuple[str, ...] = ()
    """For people: which lines were left out, and why; without any of their hashes."""


def parse(content: bytes) -> Users:
    """The users in `content`: lines of `name:hash`; empty lines and those that begin with # say nothing."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return Users(problems=("it is not UTF-8",))
    hashes: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.strip().partition(":")
        problem = _problem(name, hashed) or ("stands there twice" if name in hashes else "")
        if not problem and len(hashes) >= MAX_USERS:
            problem = f"there are more than {MAX_USERS} users"
        if problem:
            problems.append(f"line {number}: {problem}")
        else:
            hashes[name] = hashed
    return Users(hashes, tuple(problems))


def cost(hashed: str) -> int:
    """The cost (log2 of rounds) of a hash that `parse` took."""
    return int(hashed[4:6])


def _problem(name: str, hashed: str) -> str:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        return f"a user name has 1 to {MAX_NAME} printable characters"
    found = _BCRYPT.fullmatch(hashed)
    if found is None:
        return "the password is not hashed with bcrypt: use `htpasswd -B`"
    if not MIN_COST <= int(found[1]) <= MAX_COST:
        return f"its cost must be from {MIN_COST} to {MAX_COST}"
    return ""
