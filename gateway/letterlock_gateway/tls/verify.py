"""Verifies a presented chain after the handshake, as OpenSSL and other MTAs do.

After, and not during: every mode of delivery shares one path that way, and a failed check under PreferredVerify
keeps its connection. pyOpenSSL, because it takes private PKI (no SAN, no AKI, `openssl req -x509` leaves) like the
peers of a mail gateway do; the WebPKI rules of cryptography's verifier would refuse much of it. What that means
case by case is in docs/decisions, and tests/gateway/test_conformance.py holds it in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from OpenSSL import crypto

from letterlock_api import authorities
from letterlock_api.conditions import Reason
from letterlock_gateway.tls import chains, names
from letterlock_gateway.tls.names import Presented
from letterlock_gateway.tls.remembered import Good, Remembered
from letterlock_gateway.tls.trust import TrustStore

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_ISSUER_UNKNOWN: Final = frozenset({2, 20, 21})
_SELF_SIGNED_LEAF: Final = 18
_SELF_SIGNED_IN_CHAIN: Final = 19
# What a peer sends beyond this is not looked at; OpenSSL's own limit of a chain's depth is 100.
_MAX_PRESENTED: Final = 16
# Octets of a chain that is remembered: RSA 4096 with two intermediates takes 6,000. A stranger's may be longer.
_MAX_REMEMBERED: Final = 16_384
_names_of: Final = Remembered[bytes, Presented](1000)


@dataclass(frozen=True)
class Verdict:
    """What became of a chain."""

    trusted: bool
    reason: Reason | None
    """None where it is trusted; else NotTrusted or Expired."""
    detail: str
    """For people: what was found, and of which certificate."""


def verify_chain(
    presented_der: Sequence[bytes],
    trust: TrustStore,
    now: datetime,
    purpose: ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Verdict:
    """Judge the chain that a peer presented (leaf first, DER) against `trust` at `now` (aware).

    Names are not looked at: see `names`. Never raises for what a peer sent.
    """
    if not presented_der:
        return Verdict(False, Reason.NOT_TRUSTED, "the peer presented no certificate")
    key = (purpose.dotted_string.encode(), *presented_der)
    known = trust.found_good.get(key)
    if known is not None and known.since <= now < known.until:
        return Verdict(True, None, known.detail)
    try:
        chain = [authorities.load_der(der) for der in presented_der[:_MAX_PRESENTED]]
        verdict, built = _judge(chain, trust, now, purpose)
    except authorities.PARSE_ERRORS as error:
        # Whatever cannot be read is found while it is read: in the leaf, or in what leads to its anchor.
        return Verdict(False, Reason.NOT_TRUSTED, f"a presented certificate cannot be read: {error}")
    if verdict.trusted and sum(map(len, presented_der)) <= _MAX_REMEMBERED:
        since = max(one.not_valid_before_utc for one in built)
        until = min(one.not_valid_after_utc for one in built)
        trust.found_good.put(key, Good(verdict.detail, since, until))
    return verdict


def presented_names(leaf_der: bytes) -> Presented:
    """The names that count in the certificate `leaf_der`. Raises ValueError where they cannot be read."""
    known = _names_of.get(leaf_der)
    if known is None:
        known = names.presented_names(authorities.load_der(leaf_der))
        if len(leaf_der) <= _MAX_REMEMBERED:
            _names_of.put(leaf_der, known)
    return known


def _judge(
    chain: Sequence[x509.Certificate], trust: TrustStore, now: datetime, purpose: ObjectIdentifier
) -> tuple[Verdict, Sequence[x509.Certificate]]:
    """The verdict, and the chain as it was built up to its anchor (empty where it could not be)."""
    leaf, *others = chain
    if leaf.fingerprint(hashes.SHA256()) in trust.listed:
        built: Sequence[x509.Certificate] = [leaf]
        verdict = _within_dates(leaf, now)
    else:
        try:
            context = crypto.X509StoreContext(
                trust.store_at(now),
                crypto.X509.from_cryptography(leaf),
                [crypto.X509.from_cryptography(one) for one in others],
            )
            built = [_read(one) for one in context.get_verified_chain()]
        except crypto.X509StoreContextError as error:
            return _explained(error, leaf), ()
        except crypto.Error as error:
            return Verdict(False, Reason.NOT_TRUSTED, f"the presented chain cannot be verified: {error}"), ()
        verdict = Verdict(True, None, f"issued by {chains.shown(leaf.issuer)}")
    problem = chains.problem(built, purpose) if verdict.trusted else ""
    return (Verdict(False, Reason.NOT_TRUSTED, problem) if problem else verdict), built


def _explained(error: crypto.X509StoreContextError, leaf: x509.Certificate) -> Verdict:
    code = error.errors[0]
    failing = _read(error.certificate)
    subject = chains.shown(failing.subject)
    if code == _EXPIRED:
        end = failing.not_valid_after_utc
        return Verdict(False, Reason.EXPIRED, f"the certificate of {subject} expired on {end:%Y-%m-%d}")
    if code == _NOT_YET_VALID:
        start = failing.not_valid_before_utc
        return Verdict(
            False, Reason.EXPIRED, f"the certificate of {subject} is valid only from {start:%Y-%m-%d}"
        )
    if code == _SELF_SIGNED_LEAF:
        text = f"the certificate of {chains.shown(leaf.subject)} is self-signed and in no enabled CA list"
    elif code == _SELF_SIGNED_IN_CHAIN:
        text = f"the chain ends in {subject}, which is in no enabled CA list"
    elif code in _ISSUER_UNKNOWN:
        text = f"{chains.shown(failing.issuer)}, the issuer of {subject}, is in no enabled CA list and was not sent"
    else:
        text = f"{subject}: {error}"
    return Verdict(False, Reason.NOT_TRUSTED, text)


def _within_dates(leaf: x509.Certificate, now: datetime) -> Verdict:
    if now > leaf.not_valid_after_utc:
        text = (
            f"the certificate of {chains.shown(leaf.subject)} expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
        )
        return Verdict(False, Reason.EXPIRED, text)
    if now < leaf.not_valid_before_utc:
        start = leaf.not_valid_before_utc
        text = f"the certificate of {chains.shown(leaf.subject)} is valid only from {start:%Y-%m-%d}"
        return Verdict(False, Reason.EXPIRED, text)
    return Verdict(True, None, "this very certificate is in a CA list")


def _read(certificate: crypto.X509) -> x509.Certificate:
    return authorities.load_der(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
