"""Reads private keys out of PEM as people paste it, no I/O. Called by `chains`."""

from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from letterlock_api.conditions import Reason
from letterlock_operator.decide import pems
from letterlock_operator.decide.pems import Refused

type PrivateKey = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
# What members can serve at all; RSA 1024 is honoured, and said to be weak.
_LEAST_RSA: Final = 1024
# OpenSSL's default groups: with a key on another curve no handshake comes to an end (measured).
_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})


@lru_cache(maxsize=8192)
def alone(text: bytes) -> bytes:
    """The private key in `text` as PEM, and nothing beside it. Raises Refused.

    Secrets of others hold certificates beside the key, text, or white space that OpenSSL takes offence at: it would
    serve the first certificate in the file, whatever key that belongs to.
    """
    found = next((one for one in pems.blocks(text) if one.label.endswith(b"PRIVATE KEY")), None)
    if found is None or not found.closed:
        raise Refused(Reason.INVALID_PEM, "there is no private key in PEM that can be read")
    return found.pem


@lru_cache(maxsize=8192)
def public_part(pem: bytes) -> bytes:
    """The public key of a private key as `alone` gives it, DER: what certificates are matched by. Raises Refused."""
    try:
        # Not checked for being prime: that takes 30 ms for RSA 2048 and 200 ms for RSA 4096 (measured), and
        # whoever could give us a bad key could read our mail more easily. Members try every pair before use.
        key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise Refused(
            Reason.INVALID_PEM, "the private key is encrypted: give it without passphrase, or as PKCS#12"
        ) from None
    except Exception:  # noqa: BLE001 - whatever cryptography raises for bytes of strangers, they are no key
        raise Refused(Reason.INVALID_PEM, "there is no private key in PEM that can be read") from None
    if not isinstance(
        key,
        rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
    ):
        raise Refused(
            Reason.INVALID_PEM, f"TLS of mail servers has no use for a {type(key).__name__}: use RSA or ECDSA"
        )
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _LEAST_RSA:
        raise Refused(
            Reason.INVALID_PEM,
            f"the private key has {key.key_size} bits, which TLS takes no more: {_LEAST_RSA} are the least",
        )
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in _CURVES:
        raise Refused(
            Reason.INVALID_PEM,
            f"the private key is on curve {key.curve.name}, which mail servers do not speak: use P-256 or P-384",
        )
    return der(key.public_key())


def der(key: object) -> bytes:
    """SubjectPublicKeyInfo of a public key; empty for kinds of keys that TLS has no use for."""
    if not isinstance(
        key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
    ):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
