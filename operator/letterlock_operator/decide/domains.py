"""Domain names as decisions compare them: lower case, A-labels, no trailing dot. And as certificates carry them."""

from collections.abc import Iterable
from functools import lru_cache

import idna


@lru_cache(1 << 16)  # a decision asks for each more than once
def normalised(name: str) -> str:
    """`name` (or `.suffix`, or `*`) in lower case, as A-labels (RFC 5890). Raises ValueError where it is none."""
    plain = name.strip().lower()
    prefix = "." if plain.startswith(".") else ""
    body = plain.removeprefix(".").rstrip(".")
    if plain == "*" or body.isascii():
        return "*" if plain == "*" else prefix + body
    try:
        return prefix + idna.encode(body, uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise ValueError(f"{name} is no domain name (IDNA: {error})") from None


def in_certificates(name: str) -> str:
    """`name` as an alternative name (RFC 5280 section 4.2.1.6): lower case, A-labels, `*.` before it as it is.

    Raises ValueError where it is none.
    """
    wildcard, rest = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    if not rest.isascii() and "*" in rest:
        raise ValueError(f"{name} is no name for a certificate: * stands for letters of a name in ASCII only")
    return wildcard + normalised(rest)


def unusable(names: Iterable[str]) -> str:
    """What is wrong with the first of `names` that is none of a host or domain, for people; empty: nothing is."""
    for name in names:
        try:
            normalised(name)
        except ValueError as error:
            return str(error)
    return ""


def less_specific(domain: str) -> list[str]:
    """The entries that could speak for `domain` after its own: the longest `.suffix` first, `*` last."""
    if domain == "*":
        return []
    parts = domain.removeprefix(".").split(".")
    return [*("." + ".".join(parts[index:]) for index in range(1, len(parts))), "*"]


def summary(domains: list[str]) -> str:
    """The domains in few letters: `a.example +3`."""
    return domains[0] + (f" +{len(domains) - 1}" if len(domains) > 1 else "") if domains else ""
