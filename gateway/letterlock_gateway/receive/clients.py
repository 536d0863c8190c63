"""What TLS brought: the negotiated details, and whether the client's certificate is good enough (L10).

The handshake already fails for a chain that OpenSSL does not trust; here the chain is judged as everywhere
else in the gateway (`tls.verify`), and the names and fingerprints of the policy are looked at. Called right
after the handshake.
"""

import hashlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.x509.oid import ExtendedKeyUsageOID

from letterlock_api import authorities
from letterlock_api.snapshot import ReceptionPolicy
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.trace import TLSDetails
from letterlock_gateway.running import RunningSet
from letterlock_gateway.tls import chains, names, verify
from letterlock_gateway.tls.trust import TrustStore


def judge(
    connection: ssl.SSLObject, policy: ReceptionPolicy, running: RunningSet, now: float
) -> tuple[TLSDetails, Reply | None, list[str]]:
    """What was negotiated; the refusal, where the client is not good enough; and what the log should say.

    `now` in Unix seconds.
    """
    cipher, _, bits = connection.cipher() or ("unknown", "", 0)
    protocol = connection.version() or "unknown"
    details = TLSDetails(protocol, cipher, bits)
    notes = [f"TLS success protocol {protocol} cipher {cipher}"]
    if policy.client_certificate == "None":
        return details, None, notes
    chain = presented(connection)
    if not chain:
        if policy.client_certificate == "Optional":
            return details, None, notes
        notes.append("TLS failed: no client certificate was presented")
        return details, replies.CLIENT_CERTIFICATE_MISSING, notes
    wrong, subject = problem(
        chain,
        running.trust_for(policy.client_ca_lists or None),
        datetime.fromtimestamp(now, UTC),
        names_listed=policy.client_names,
        fingerprints=policy.client_fingerprints,
    )
    if wrong:
        notes.append(f"TLS failed: {wrong}")
        return details, replies.CLIENT_CERTIFICATE_INVALID, notes
    notes.append(f"client certificate verified: {subject}")
    return TLSDetails(protocol, cipher, bits, subject), None, notes


def presented(connection: ssl.SSLObject) -> Sequence[bytes]:
    """The chain that the client presented, DER; empty: none."""
    leaf = connection.getpeercert(binary_form=True)
    if not leaf:  # asked first: without a certificate the chain is a list that Python cannot give (3.13)
        return []
    # The whole chain: no session is resumed by ticket, which would keep the leaf alone (`tls.contexts`).
    return [bytes(one) for one in connection.get_unverified_chain()] or [leaf]


def problem(
    chain: Sequence[bytes],
    trusted: TrustStore,
    now: datetime,
    *,
    names_listed: Sequence[str],
    fingerprints: Sequence[str],
) -> tuple[str, str]:
    """Why the client is refused (empty: it is not), and its subject. Of what is not listed anything will do."""
    verdict = verify.verify_chain(chain, trusted, now, ExtendedKeyUsageOID.CLIENT_AUTH)
    if not verdict.trusted:
        return f"client certificate not trusted: {verdict.detail}", ""
    leaf = authorities.load_der(chain[0])
    subject = chains.shown(leaf.subject)
    if fingerprints and hashlib.sha256(chain[0]).hexdigest() not in fingerprints:
        return f"fingerprint of the client certificate ({subject}) is not listed", ""
    if names_listed:
        held = names.presented_names(leaf)
        if names.first_match(names_listed, held) is None:
            shown = ", ".join(held.names) or "none"
            return f"names of the client certificate ({shown}) are not listed", ""
    return "", subject
