"""Which names count: presented and reference identifiers. Pure.

Presented names are the `dNSName` subject alternative names; if there is at least one, only these are looked at,
and only a certificate without any is judged by its common name (RFC 6125 section 6.4.4). Wildcards follow
RFC 2818 section 3.1, in the left-most label only, with at least two labels behind it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import idna
from cryptography import x509
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Presented:
    """The names that a certificate is judged by."""

    names: tuple[str, ...]
    """Normalised: lower case, A-labels, no trailing dot."""
    common_name: bool
    """Whether they come from the common name, for want of any dNSName."""


def presented_names(leaf: x509.Certificate) -> Presented:
    """The names in `leaf` that count. Raises ValueError where its extensions cannot be read."""
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = alternative.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        found = []
    if found:
        return Presented(tuple(normalised(name) for name in found), common_name=False)
    common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    # The last one is the most specific (RFC 6125 section 2.3.1).
    names = tuple(normalised(str(attribute.value)) for attribute in common[-1:])
    return Presented(names, common_name=True)


def normalised(name: str) -> str:
    """`name` in lower case, as A-labels (RFC 5890), without trailing dot; what is no IDN stays as it is."""
    plain = name.strip().rstrip(".").lower()
    if plain.isascii():
        return plain
    try:
        return idna.encode(plain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return plain


def match(reference: str, presented: str) -> bool:
    """Whether the presented name covers the reference name; both are normalised here."""
    wanted, shown = normalised(reference), normalised(presented)
    if not wanted or not shown or "*" in wanted or "\0" in shown:
        return False
    return _match_wildcard(wanted, shown) if "*" in shown else wanted == shown


def first_match(references: Iterable[str], presented: Presented) -> str | None:
    """The first of `references` that a presented name covers; None: none is."""
    for reference in references:
        if any(match(reference, name) for name in presented.names):
            return reference
    return None


def _match_wildcard(wanted: str, shown: str) -> bool:
    first, dot, rest = shown.partition(".")
    wanted_first, _, wanted_rest = wanted.partition(".")
    if not dot or "*" in rest or rest != wanted_rest or first.count("*") != 1:
        return False
    if "." not in rest or not all(rest.split(".")):
        return False  # `*.com` would cover a whole registry
    if first == "*":
        return bool(wanted_first)
    # A part of a label: never inside an A-label, whose letters are not the name's (RFC 6125 section 6.4.3).
    if wanted_first.startswith("xn--") or first.startswith("xn--"):
        return False
    before, _, after = first.partition("*")
    fits = len(wanted_first) >= len(before) + len(after) + 1
    return fits and wanted_first.startswith(before) and wanted_first.endswith(after)
