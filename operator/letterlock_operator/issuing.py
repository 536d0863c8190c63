"""Keys and certificates that are made here: self-signed ones for mail, and each gateway's internal CA.

Called by `act.keys` in a worker process (an RSA key of 4096 bits takes seconds that an event loop does not
have), and by `letterlock up`. What goes in is data of the plan, what comes out is the data of one Secret.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from letterlock_api.state import (
    INTERNAL_CA_FILE,
    INTERNAL_CERTIFICATE_FILE,
    INTERNAL_CLIENT_NAME,
    INTERNAL_SERVER_NAME,
)
from letterlock_operator.decide import domains
from letterlock_operator.decide.keeping import (
    CERTIFICATE,
    INPUTS,
    INTERNAL_CA_KEY,
    KEY,
    NEXT_CERTIFICATE,
    NEXT_INPUTS,
    NEXT_KEY,
    NEXT_REQUEST,
    REQUEST,
)
from letterlock_operator.plan import Install, Issue
from letterlock_operator.world import Keep

INTERNAL_CA_CERTIFICATE: Final = "ca.crt"
OPERATOR_IDENTITY: Final = "operator-tls.pem"

NEXT: Final = frozenset({NEXT_KEY, NEXT_CERTIFICATE, NEXT_REQUEST, NEXT_INPUTS})

# Outlives any cluster: only the operator and its members see these, and both are replaced with the Secret.
_INTERNAL_VALIDITY: Final = timedelta(days=3650)
# In the order that distinguished names are encoded, from the country down to the name.
_SUBJECT: Final = {
    "country": NameOID.COUNTRY_NAME,
    "state": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "common_name": NameOID.COMMON_NAME,
}

type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def issue(order: Issue, present: Keep | None, now: datetime) -> dict[str, bytes]:
    """What shall be in the Secret of `order`: a key, a self-signed certificate, a request for the same key.

    `present`: the Secret as it is, whose key is kept where the order says so, and all of it where only the next
    certificate or a request is made. Valid from `now`, to the second, for `order.days`. Raises ValueError for an
    unusable key or name.
    """
    before = dict(present.data) if present is not None else {}
    keeps = order.keep_key and before.get(KEY)
    key = _load_key(before[KEY]) if keeps else _make_key(order.algorithm, order.size)
    subject = x509.Name(
        [
            x509.NameAttribute(oid, order.subject[field])
            for field, oid in _SUBJECT.items()
            if order.subject.get(field)
        ]
    )
    names = _names(order.dns_names, order.subject.get("common_name", ""))
    request = _request(subject, names, key)
    if order.store == "request":
        return {**before, REQUEST: request, INPUTS: order.inputs.encode()}
    following = {NEXT_REQUEST: request, NEXT_INPUTS: order.inputs.encode()}
    if not order.keep_key:
        following[NEXT_KEY] = _key_pem(key)
    kept = {name: value for name, value in before.items() if name not in NEXT}
    if order.store == "next-request":
        return {**kept, **following}
    start = now.replace(microsecond=0)
    certificate = _sign(
        subject=subject,
        names=names,
        key=key,
        issuer=subject,
        issuer_key=key,
        validity=(start, start + timedelta(days=order.days)),
    ).public_bytes(serialization.Encoding.PEM)
    if order.store == "next":
        return {**kept, **following, NEXT_CERTIFICATE: certificate}
    return {KEY: _key_pem(key), CERTIFICATE: certificate, REQUEST: request, INPUTS: order.inputs.encode()}


def install(order: Install, present: Keep) -> dict[str, bytes]:
    """What shall be in the Secret once the certificate of `order` is in use, or prepared."""
    before = dict(present.data)
    if order.prepare:
        return {**before, NEXT_CERTIFICATE: order.chain}
    kept = {name: value for name, value in before.items() if name not in NEXT}
    if not order.from_next:
        # A request for another key may still be signed; a prepared certificate is one of yesterday's now.
        return {**(kept if NEXT_CERTIFICATE in before else before), CERTIFICATE: order.chain}
    return {
        **kept,
        KEY: before.get(NEXT_KEY) or before[KEY],
        CERTIFICATE: order.chain,
        REQUEST: before.get(NEXT_REQUEST) or before.get(REQUEST, b""),
        INPUTS: before.get(NEXT_INPUTS) or before.get(INPUTS, b""),
    }


def _request(subject: x509.Name, names: Sequence[str], key: PrivateKey) -> bytes:
    """A request for a certificate of this key, PEM (PKCS#10, RFC 2986)."""
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, _digest(key))
    )
    return request.public_bytes(serialization.Encoding.PEM)


def issue_internal(gateway: str, now: datetime) -> dict[str, bytes]:
    """A gateway's internal CA, and the identities of its members and of the operator towards each other.

    `member-tls.pem` and `member-ca.pem` are for the members; the CA's key and `operator-tls.pem` stay here.
    """
    start = now.replace(microsecond=0)
    validity = (start, start + _INTERNAL_VALIDITY)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Letterlock {gateway}"[:64])])
    ca = _sign(
        subject=ca_name, names=(), key=ca_key, issuer=ca_name, issuer_key=ca_key, validity=validity, ca=True
    )
    ca_pem = ca.public_bytes(serialization.Encoding.PEM)

    def identity(name: str) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = _sign(
            subject=subject, names=(name,), key=key, issuer=ca_name, issuer_key=ca_key, validity=validity
        )
        return _key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)

    return {
        INTERNAL_CA_KEY: _key_pem(ca_key),
        INTERNAL_CA_CERTIFICATE: ca_pem,
        OPERATOR_IDENTITY: identity(INTERNAL_CLIENT_NAME),
        INTERNAL_CERTIFICATE_FILE: identity(INTERNAL_SERVER_NAME),
        INTERNAL_CA_FILE: ca_pem,
    }


def _names(dns_names: Sequence[str], common_name: str) -> tuple[str, ...]:
    """The alternative names as A-labels (RFC 5280, 4.2.1.6), the common name among them, each once."""
    wanted = [*dns_names, common_name] if common_name not in dns_names else list(dns_names)
    encoded = [domains.in_certificates(name) for name in wanted if name]
    if not encoded:
        raise ValueError("a certificate needs a common name or a subject alternative name")
    return tuple(dict.fromkeys(encoded))


def _make_key(algorithm: str, size: int) -> PrivateKey:
    if algorithm == "ECDSA":
        return ec.generate_private_key(ec.SECP384R1() if size == 384 else ec.SECP256R1())
    # 1024 is honoured: peers exist that take no more. Decisions flag it as WeakKey.
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def _load_key(pem: bytes) -> PrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError(f"the key is neither RSA nor ECDSA but {type(key).__name__}")  # noqa: TRY004
    return key


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    return (
        hashes.SHA384()
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == 384
        else hashes.SHA256()
    )


def _sign(
    *,
    subject: x509.Name,
    names: Sequence[str],
    key: PrivateKey,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    validity: tuple[datetime, datetime],
    ca: bool = False,
) -> x509.Certificate:
    """A certificate with all that strict verifiers ask for (RFC 5280, 4.2): identifiers, usages, names."""
    encrypts = isinstance(key, rsa.RSAPrivateKey) and not ca  # RSA key exchange of TLS 1.2 and before
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=encrypts,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=ca,
                crl_sign=ca,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if names:
        # A subject without any name makes the alternative names critical (RFC 5280, 4.2.1.6).
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=not list(subject))
    if not ca:
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usages, critical=False)
    return builder.sign(issuer_key, _digest(issuer_key))
