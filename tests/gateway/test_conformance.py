"""Chains against the x509-limbo corpus: what agrees is pinned per group, what does not is named, with its reason.

The corpus says what a browser should do; a mail gateway meets private PKI. Where we differ on purpose is a table in
docs/decisions/0006: a case that moves from one side to the other fails here.
"""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from letterlock_api import authorities
from letterlock_gateway.tls import names, verify
from letterlock_gateway.tls.trust import TrustStore
from tests.harness import limbo
from tests.harness.limbo import Case

DECISION: Final = next((Path(__file__).parents[2] / "docs/decisions").glob("*-which-chains-are-trusted.md"))

# Cases that should fail, and pass here.
_LENIENT = """
crl::revoked-certificate-with-crl crl::crlnumber-missing crl::crlnumber-critical
crl::issuer-missing-crlsign pathlen::max-chain-depth-0-exhausted
pathlen::max-chain-depth-1-exhausted rfc5280::aki::leaf-missing-aki
rfc5280::aki::intermediate-missing-aki rfc5280::ski::root-missing-ski
rfc5280::ski::intermediate-missing-ski rfc5280::serial::too-long rfc5280::serial::zero
rfc5280::nc::permitted-dns-match-noncritical rfc5280::nc::invalid-dnsname-leading-period
rfc5280::nc::not-allowed-in-ee-noncritical rfc5280::nc::not-allowed-in-ee-critical
rfc5280::nc::nc-permits-invalid-dns-san rfc5280::nc::nc-permits-invalid-email-san
rfc5280::pc::ica-noncritical-pc rfc5280::root-non-critical-basic-constraints
rfc5280::san::noncritical-with-empty-subject rfc5280::san::underscore-dns rfc5280::san::ip-in-dns
rfc5280::leaf-ku-keycertsign webpki::aki::root-with-aki-missing-keyidentifier
webpki::cn::ipv4-hex-mismatch webpki::cn::ipv4-leading-zeros-mismatch
webpki::cn::ipv6-uppercase-mismatch webpki::cn::ipv6-uncompressed-mismatch
webpki::cn::ipv6-non-rfc5952-mismatch webpki::cn::punycode-not-in-san
webpki::cn::utf8-vs-punycode-mismatch webpki::cn::not-in-san webpki::cn::case-mismatch
webpki::eku::ee-anyeku webpki::eku::ee-critical-eku webpki::eku::ee-without-eku
webpki::eku::root-has-eku webpki::san::public-suffix-multi-label-wildcard-san
webpki::san::public-suffix-private-namespace-wildcard-san
webpki::san::wildcard-embedded-leftmost-san webpki::san::no-san
webpki::san::san-critical-with-nonempty-subject webpki::forbidden-p192-root
webpki::forbidden-p192-leaf webpki::forbidden-dsa-root webpki::forbidden-dsa-leaf
webpki::forbidden-weak-rsa-key-in-root webpki::forbidden-weak-rsa-in-leaf
webpki::forbidden-rsa-not-divisible-by-8-in-root
webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf webpki::v1-cert webpki::ee-basicconstraints-ca
webpki::ca-as-leaf
"""
LENIENT: Final = frozenset(_LENIENT.split())
# Cases that should pass, and fail here: the safe side.
_STRICT = """
cve::cve-2024-0567 rfc5280::root-and-intermediate-swapped
rfc5280::nc::nc-forbids-alternate-chain-ica rfc5280::nc::nc-forbids-same-chain-ica
crl::issuer-no-keyusage-extension
"""
STRICT: Final = frozenset(_STRICT.split())
# How many of each group agree, out of how many.
AGREEMENT: Final = {
    "crl": (3, 8),
    "cve": (2, 3),
    "invalid": (1, 1),
    "online": (14, 14),
    "pathlen": (11, 13),
    "pathological": (11, 11),
    "rfc5280": (21, 24),
    "rfc5280::aki": (3, 5),
    "rfc5280::eku": (3, 3),
    "rfc5280::nc": (40, 48),
    "rfc5280::pc": (0, 1),
    "rfc5280::san": (1, 4),
    "rfc5280::serial": (1, 3),
    "rfc5280::ski": (1, 3),
    "rfc5280::validity": (11, 11),
    "webpki": (4, 15),
    "webpki::aki": (4, 5),
    "webpki::cn": (0, 9),
    "webpki::eku": (0, 4),
    "webpki::nc": (4, 4),
    "webpki::san": (14, 19),
}


def trusted(case: Case) -> bool:
    """Whether delivery (a client: reception) would take the case's chain, and its name where it has one."""
    try:
        store = TrustStore.from_pem(*case.trusted)
    except authorities.Unreadable:
        return False  # such a CA is left out of its list: nothing chains to it
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if case.client else ExtendedKeyUsageOID.SERVER_AUTH
    verdict = verify.verify_chain(case.presented, store, case.moment, purpose)
    if not verdict.trusted or case.dns_name is None:
        return verdict.trusted
    presented = names.presented_names(authorities.load_der(case.presented[0]))
    return names.first_match([case.dns_name], presented) is not None


@cache
def judged() -> dict[str, tuple[Case, bool]]:
    return {case.name: (case, trusted(case)) for case in limbo.cases()}


def test_the_corpus_is_whole() -> None:
    assert len(judged()) == 208
    assert sum(total for _, total in AGREEMENT.values()) == 208


def test_each_divergence_is_known_by_name() -> None:
    found = judged().values()
    assert {case.name for case, good in found if good and not case.good} == LENIENT
    assert {case.name for case, good in found if not good and case.good} == STRICT


def test_agreement_per_group() -> None:
    agree = Counter(case.group for case, good in judged().values() if good == case.good)
    total = Counter(case.group for case, _ in judged().values())
    assert {group: (agree[group], count) for group, count in total.items()} == AGREEMENT


@pytest.mark.parametrize("name", sorted(LENIENT | STRICT))
def test_each_divergence_is_explained(name: str) -> None:
    assert f"`{name}`" in DECISION.read_text()


def test_no_chain_takes_long() -> None:
    """The corpus has chains made to tie up a verifier; a peer may send one at every connection."""
    import time

    slow = [case for case, _ in judged().values() if case.group == "pathological"]
    began = time.process_time()
    for case in slow:
        trusted(case)
    assert time.process_time() - began < 5 * len(slow) / 11
