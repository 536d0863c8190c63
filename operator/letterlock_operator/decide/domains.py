"""Domain names as decisions compare them: lower case, A-labels, no trailing dot."""

import idna


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
        raise ValueError(f"{name!r} is not a domain name: {error}") from None


def less_specific(domain: str) -> list[str]:
    """The entries that could speak for `domain` after its own: the longest `.suffix` first, `*` last."""
    if domain == "*":
        return []
    parts = domain.removeprefix(".").split(".")
    return [*("." + ".".join(parts[index:]) for index in range(1, len(parts))), "*"]


def summary(domains: list[str]) -> str:
    """The domains in few letters: `a.example +3`."""
    return domains[0] + (f" +{len(domains) - 1}" if len(domains) > 1 else "") if domains else ""
