"""Which certificates are weaker than OpenSSL takes by default. The operator says so of ours; members serve them still.

One place, so that what is said to be weak is what members lower OpenSSL's security level for, and nothing else.
"""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

BROKEN_HASHES: Final = (hashes.MD5, hashes.SHA1)
"""Collisions are made at will, so that a CA's signature under one certificate fits another one."""
# OpenSSL's security level 2 (SSL_CTX_set_security_level(3)): 112 bits of security.
_FIRM_RSA: Final = 2048
_FIRM_CURVE: Final = 224


def weak_key(algorithm: str, size: int) -> str:
    """Why a key of this kind (`RSA`, `ECDSA`) and size in bits is weak, for people; empty: it is not."""
    least = {"RSA": _FIRM_RSA, "ECDSA": _FIRM_CURVE}.get(algorithm, 0)
    return "" if size >= least else f"{algorithm} {size} can be broken: use {least} bits or more"


def weakness(certificate: x509.Certificate) -> str:
    """Why `certificate` is weak, for people; empty: it is not."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        said = weak_key("RSA" if isinstance(key, rsa.RSAPublicKey) else "ECDSA", key.key_size)
        if said:
            return said
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        oid = certificate.signature_algorithm_oid.dotted_string
        return f"it is signed with an algorithm that peers do not know ({oid}): have it signed with SHA-256"
    # Nobody rests on the signature that a certificate has of its own key.
    if isinstance(digest, BROKEN_HASHES) and certificate.issuer != certificate.subject:
        return f"it is signed with {digest.name.upper()}, which can be forged: have it signed with SHA-256"
    return ""
