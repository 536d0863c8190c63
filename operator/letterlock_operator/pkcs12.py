"""PKCS#12 files (RFC 7292): opened on import, made on export (C4, C5).

Called by `act.makers` in a worker process, by `letterlock up` and by the command line: deriving a key from a passphrase
takes time on purpose. Files of strangers are bounded before they are opened.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from letterlock_api.certificate import Level
from letterlock_api.conditions import Reason
from letterlock_operator.decide import bringing, chains, keeping, room
from letterlock_operator.decide.chains import Chain
from letterlock_operator.decide.pems import Refused
from letterlock_operator.plan import ExportedFile, Import

# A chain with its key is a few kilobytes; an object of Kubernetes ends at 1 MiB.
_LARGEST: Final = 1 << 20
# Rounds of key derivation over all parts of a file: a second or two of work. openssl asks for 2,048, Java for
# 10,000, careful people for some 100,000 per part.
_MOST_ROUNDS: Final = 5_000_000
_OUR_ROUNDS: Final = 100_000
_PFX_VERSION: Final = b"\x02\x01\x03"
_DATA: Final = bytes.fromhex("06092a864886f70d010701")
_KEY_BAGS: Final = (bytes.fromhex("060b2a864886f70d010c0a0101"), bytes.fromhex("060b2a864886f70d010c0a0102"))
_OCTET_STRING, _INTEGER = 0x04, 0x02
_PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True)
class Contents:
    """What is in a file."""

    key: bytes | None
    """PEM (PKCS#8), unencrypted; None: there is none."""
    certificates: tuple[x509.Certificate, ...]
    """The key's own first, where there is a key."""

    @property
    def certificates_pem(self) -> bytes:
        """All of them, PEM."""
        return b"".join(one.public_bytes(_PEM) for one in self.certificates)


def read(file: bytes, passphrase: bytes | None) -> Contents:
    """What is in `file`. Raises Refused: no PKCS#12, wrong passphrase, several keys, too much work.

    A passphrase with a line end is tried without it too: Secrets made from files have one.
    """
    _bounded(file)
    tried = [passphrase] if passphrase else [None, b""]
    if passphrase and passphrase.rstrip(b"\r\n") != passphrase:
        tried.append(passphrase.rstrip(b"\r\n"))
    for one in tried:
        try:
            found = pkcs12.load_pkcs12(file, one)
        except ValueError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever cryptography raises for bytes of strangers, they cannot be used
            raise Refused(Reason.INVALID_PKCS12, f"it cannot be read: {type(error).__name__}") from None
        return _contents(found)
    given = "the passphrase does not open it" if passphrase else "it needs a passphrase: name one"
    raise Refused(Reason.WRONG_PASSPHRASE, f"{given} (or the file is damaged)")


def opened(order: Import, now: datetime) -> dict[str, bytes]:
    """The data of the Secret that keeps what is in the file of `order`. Raises Refused, for what cannot serve too."""
    chain = chain_in(read(order.file, order.passphrase))
    check(chain, order.level, now)
    return {
        keeping.KEY: chain.key_pem,
        keeping.CERTIFICATE: chain.certificates_pem,
        keeping.INPUTS: order.inputs.encode(),
    }


def chain_in(contents: Contents) -> Chain:
    """The key that was in a file, with its certificate and intermediates. Raises Refused."""
    if contents.key is None:
        text = "there is no private key in it: import it as a CAList if its certificates are to be trusted"
        raise Refused(Reason.NO_PRIVATE_KEY, text)
    return chains.read(contents.key, contents.certificates_pem)


def check(chain: Chain, level: Level, now: datetime) -> None:
    """Raise Refused where what was in a file cannot serve at `level` now."""
    if chain.end <= now:
        raise Refused(
            Reason.EXPIRED, f"the certificate in it expired on {chain.end:%Y-%m-%d}: import another"
        )
    problem = bringing.unusable(chain, level, now, "the certificate in it")
    if problem:
        until = chain.start if problem[0] == Reason.NOT_YET_VALID else None
        raise Refused(*problem, until)
    too_large = room.larger_than_all("what is in it", len(chain.pem))
    if too_large:
        raise Refused(*too_large)


def write(file: ExportedFile) -> bytes:
    """The file, encrypted as openssl 3, Java 8u301 and Windows Server 2019 and later read it (AES-256, SHA-256).

    Raises ValueError where key and certificates are none.
    """
    key = serialization.load_pem_private_key(file.pem, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(
        key,
        rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
    ):
        raise ValueError(f"a {type(key).__name__} cannot be exported")  # noqa: TRY004 - of a file, not of a caller
    leaf, *intermediates = x509.load_pem_x509_certificates(file.pem)
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_OUR_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(file.passphrase)
    )
    return pkcs12.serialize_key_and_certificates(
        file.friendly_name.encode(), key, leaf, intermediates or None, encryption
    )


def _contents(found: pkcs12.PKCS12KeyAndCertificates) -> Contents:
    own = [found.cert.certificate] if found.cert is not None else []
    others = [one.certificate for one in found.additional_certs]
    key: bytes | None = None
    if found.key is not None:
        key = found.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    if key is None and not own and not others:
        raise Refused(Reason.INVALID_PKCS12, "there is neither a key nor a certificate in it")
    return Contents(key, (*own, *others))


def _bounded(file: bytes) -> None:
    """Raises Refused for what is no PKCS#12 file, or one that would keep us busy."""
    if len(file) > _LARGEST:
        raise Refused(
            Reason.TOO_LARGE, f"it has {len(file)} bytes: more than {_LARGEST} is no key with its chain"
        )
    if file.lstrip()[:5] == b"-----":
        raise Refused(
            Reason.INVALID_PKCS12, "it is PEM and not PKCS#12: put it into a kubernetes.io/tls Secret"
        )
    if not file.startswith(b"\x30") or _PFX_VERSION not in file[:16] or _DATA not in file[:64]:
        raise Refused(Reason.INVALID_PKCS12, "it is not a PKCS#12 file (.p12, .pfx)")
    if sum(file.count(one) for one in _KEY_BAGS) > 1:
        raise Refused(
            Reason.SEVERAL_KEYS, "there are several private keys in it: export the one that is meant alone"
        )
    asked = sum(rounds(file))
    if asked > _MOST_ROUNDS:
        text = f"it asks for {asked} rounds of key derivation, more than {_MOST_ROUNDS}: export it with fewer"
        raise Refused(Reason.INVALID_PKCS12, text)


def rounds(der: bytes, depth: int = 0) -> Iterator[int]:
    """Iteration counts: an INTEGER right behind the salt, an OCTET STRING (RFC 7292 B.4, RFC 8018 A.2, RFC 7914 7)."""
    at, before = 0, 0
    while at + 2 <= len(der) and depth < 24:
        tag, length, start = der[at], der[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length, start = int.from_bytes(der[start : start + octets]), start + octets
        value = der[start : start + length]
        if tag == _INTEGER and before == _OCTET_STRING:
            yield int.from_bytes(value[:9])
        elif tag & 0x20 or (tag == _OCTET_STRING and value[:1] in (b"\x30", b"\x04")):
            yield from rounds(value, depth + 1)
        before, at = tag, start + length
