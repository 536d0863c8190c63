"""Verifies a presented chain after the handshake, as OpenSSL and other MTAs do.

After, and not during: every mode of delivery shares one path that way, and a failed check under PreferredVerify
keeps its connection. pyOpenSSL, because it takes private PKI (no SAN, no AKI, `openssl req -x509` leaves) like the
peers of a mail gateway do; the WebPKI rules of cryptography's verifier would refuse much of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from OpenSSL import crypto

from letterlock_api.conditions import Reason
from letterlock_gateway.tls.trust import TrustStore

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_ISSUER_UNKNOWN: Final = frozenset({2, 20, 21})
_SELF_SIGNED_LEAF: Final = 18
_SELF_SIGNED_IN_CHAIN: Final = 19
# What a peer sends beyond this is not looked at; OpenSSL's own limit of a chain's depth is 100.
_MAX_PRESENTED: Final = 16


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
    try:
        chain = [x509.load_der_x509_certificate(der) for der in presented_der[:_MAX_PRESENTED]]
        leaf, usage = chain[0], _usage_problem(chain[0], purpose)
    except ValueError as error:
        return Verdict(False, Reason.NOT_TRUSTED, f"the presented certificate cannot be read: {error}")
    if usage:
        return Verdict(False, Reason.NOT_TRUSTED, usage)
    if leaf.fingerprint(hashes.SHA256()) in trust.pinned:
        return _within_dates(leaf, now)
    return _by_openssl(chain, trust, now)


def _by_openssl(chain: Sequence[x509.Certificate], trust: TrustStore, now: datetime) -> Verdict:
    leaf, *others = (crypto.X509.from_cryptography(certificate) for certificate in chain)
    try:
        crypto.X509StoreContext(trust.store_at(now), leaf, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        return _explained(error, chain[0])
    except crypto.Error as error:
        return Verdict(False, Reason.NOT_TRUSTED, f"the presented chain cannot be verified: {error}")
    return Verdict(True, None, f"issued by {_name(chain[0].issuer)}")


def _explained(error: crypto.X509StoreContextError, leaf: x509.Certificate) -> Verdict:
    code = error.errors[0]
    failing = error.certificate.to_cryptography()
    subject = _name(failing.subject)
    if code == _EXPIRED:
        end = failing.not_valid_after_utc
        return Verdict(False, Reason.EXPIRED, f"the certificate of {subject} expired on {end:%Y-%m-%d}")
    if code == _NOT_YET_VALID:
        start = failing.not_valid_before_utc
        return Verdict(
            False, Reason.EXPIRED, f"the certificate of {subject} is valid only from {start:%Y-%m-%d}"
        )
    if code == _SELF_SIGNED_LEAF:
        text = f"the certificate of {_name(leaf.subject)} is self-signed and in no enabled CA list"
    elif code == _SELF_SIGNED_IN_CHAIN:
        text = f"the chain ends in {subject}, which is in no enabled CA list"
    elif code in _ISSUER_UNKNOWN:
        text = f"{_name(failing.issuer)}, the issuer of {subject}, is in no enabled CA list and was not sent"
    else:
        text = f"{subject}: {error}"
    return Verdict(False, Reason.NOT_TRUSTED, text)


def _within_dates(leaf: x509.Certificate, now: datetime) -> Verdict:
    if now > leaf.not_valid_after_utc:
        text = f"the certificate of {_name(leaf.subject)} expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
        return Verdict(False, Reason.EXPIRED, text)
    if now < leaf.not_valid_before_utc:
        start = leaf.not_valid_before_utc
        text = f"the certificate of {_name(leaf.subject)} is valid only from {start:%Y-%m-%d}"
        return Verdict(False, Reason.EXPIRED, text)
    return Verdict(True, None, "this very certificate is in a CA list")


def _usage_problem(leaf: x509.Certificate, purpose: ObjectIdentifier) -> str:
    """RFC 5280 section 4.2.1.12: a certificate that names its uses serves no other."""
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    if purpose in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages:
        return ""
    role = "servers" if purpose == ExtendedKeyUsageOID.SERVER_AUTH else "clients"
    return f"the certificate of {_name(leaf.subject)} is not meant for TLS {role}"


def _name(name: x509.Name) -> str:
    return name.rfc4514_string() or "(no subject)"
