"""Certificates in words: the chain as openssl prints it, and what is in a file before it is used.

Pure but for the clock that callers give. Called by the commands on certificates and CA lists.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from letterlock_cli.output import left, line

if TYPE_CHECKING:
    from cryptography import x509

_TIME: Final = "%b %e %H:%M:%S %Y GMT"


def chain_text(pem: bytes) -> str:
    """The chain as `openssl s_client -showcerts` prints one: who, by whom, which key, until when, then the PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    return "\n".join(
        f"{number:2} {_as_openssl(one)}\n{one.public_bytes(serialization.Encoding.PEM).decode().strip()}"
        for number, one in enumerate(x509.load_pem_x509_certificates(pem))
    )


def summary(
    leaf: "x509.Certificate", intermediates: "Sequence[x509.Certificate]", now: datetime
) -> list[tuple[str, str]]:
    """What people compare before they use a certificate: fields and their values."""
    from cryptography.hazmat.primitives import hashes

    own = leaf.subject == leaf.issuer
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return [
        ("subject", line(leaf.subject.rfc4514_string())),
        ("issuer", line(leaf.issuer.rfc4514_string()) + (" (self-signed)" if own else "")),
        ("names", line(", ".join(names(leaf))) or "none"),
        ("valid", f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, {left(end, now)}"),
        ("key", _key(leaf)),
        ("sha256", leaf.fingerprint(hashes.SHA256()).hex()),
        *(("intermediate", line(one.subject.rfc4514_string())) for one in intermediates),
    ]


def names(certificate: "x509.Certificate") -> list[str]:
    """The dNSName alternative names."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return found.get_values_for_type(x509.DNSName)


def _key(certificate: "x509.Certificate") -> str:
    key = certificate.public_key()
    size = getattr(key, "key_size", None)
    kind = type(key).__name__.removesuffix("PublicKey").removeprefix("_")
    return kind + (f", {size} bits" if size else "")


def _as_openssl(one: "x509.Certificate") -> str:
    from cryptography.hazmat.primitives import hashes

    listed = ", ".join(names(one))
    lines = [
        f"s:{line(one.subject.rfc4514_string())}",
        f"i:{line(one.issuer.rfc4514_string())}",
        f"a:{_key(one)}",
        f"v:NotBefore: {one.not_valid_before_utc:{_TIME}}; NotAfter: {one.not_valid_after_utc:{_TIME}}",
        f"serial:{one.serial_number:X}",
        f"sha256:{one.fingerprint(hashes.SHA256()).hex()}",
        *([f"names:{line(listed)}"] if listed else []),
    ]
    return "\n   ".join(lines)
