"""What is asked of a chain beyond OpenSSL's path building. Pure; the list of rules reads as a check-list.

Called by `verify`, with chains that OpenSSL has found good: pyOpenSSL sets neither purpose nor security level, so
what those check in other MTAs is checked here. Why these: docs/decisions, "Which chains are trusted".
"""

from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from letterlock_api.strength import BROKEN_HASHES
from letterlock_gateway.report.printable import one_line
from letterlock_gateway.tls import names

type Rule = Callable[[Sequence[x509.Certificate], ObjectIdentifier], str]

# As OpenSSL's security level 1: RSA 1024 still counts, for old peers have it; 512 is broken in hours.
_MIN_RSA_BITS: Final = 1024
_MAX_SHOWN: Final = 300


def problem(chain: Sequence[x509.Certificate], purpose: ObjectIdentifier) -> str:
    """What is wrong with `chain` (leaf first, as built up to the anchor), for people; empty: nothing is."""
    return next((found for rule in RULES if (found := rule(chain, purpose))), "")


def shown(name: x509.Name) -> str:
    """A subject or issuer, for people. Its owner may have written any length into it."""
    return one_line(name.rfc4514_string(), _MAX_SHOWN) or "(no subject)"


def for_the_purpose(chain: Sequence[x509.Certificate], purpose: ObjectIdentifier) -> str:
    """RFC 5280 section 4.2.1.12: a certificate that names its uses serves no other; so do those above it."""
    for one in chain:
        try:
            usages = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            continue
        if purpose not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
            role = "servers" if purpose == ExtendedKeyUsageOID.SERVER_AUTH else "clients"
            return f"the certificate of {shown(one.subject)} is not meant for TLS {role}"
    return ""


def strong_signatures(chain: Sequence[x509.Certificate], _: ObjectIdentifier) -> str:
    """No signature by MD5 or SHA-1; the anchor's own counts for nothing, so that it may be as it is."""
    for one in chain[:-1]:
        if isinstance(one.signature_hash_algorithm, BROKEN_HASHES):
            return f"the certificate of {shown(one.subject)} is signed with {one.signature_hash_algorithm.name.upper()}"
    return ""


def strong_keys(chain: Sequence[x509.Certificate], _: ObjectIdentifier) -> str:
    """No RSA key below 1024 bits anywhere, the anchor's included."""
    for one in chain:
        key = one.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
            return f"the key of {shown(one.subject)} has {key.key_size} bits: {_MIN_RSA_BITS} are the least"
    return ""


def wildcards_cover_nothing_excluded(chain: Sequence[x509.Certificate], _: ObjectIdentifier) -> str:
    """RFC 5280 section 4.2.1.10: `*.example.com` stands for `a.example.com` too, which a CA may have been denied.

    OpenSSL compares the wildcard itself (CVE-2025-61727 is the same slip elsewhere).
    """
    presented = names.presented_names(chain[0])
    wildcards = [name for name in presented.names if "*" in name]
    if not wildcards:
        return ""
    for one in chain[1:]:
        try:
            excluded = one.extensions.get_extension_for_class(x509.NameConstraints).value.excluded_subtrees
        except x509.ExtensionNotFound:
            continue
        for denied in (str(base.value) for base in excluded or () if isinstance(base, x509.DNSName)):
            for name in wildcards:
                if names.match(denied.lstrip("."), name):
                    return f"{name} covers {denied}, for which {shown(one.subject)} may not speak"
    return ""


RULES: Final[tuple[Rule, ...]] = (
    for_the_purpose,
    strong_signatures,
    strong_keys,
    wildcards_cover_nothing_excluded,
)
