"""CA lists: which certificates of a list count, and what is left out and why (A2, A5)."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.utils import CryptographyDeprecationWarning

from letterlock_api.calist import SYSTEM_LIST, CAList, ExpiringCertificate, RejectedCertificate
from letterlock_api.conditions import Reason, Type
from letterlock_api.snapshot import TrustList, ca_file_name
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted, false, true, unknown
from letterlock_operator.world import Unreadable, World

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CERTIFICATES: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"})
_MAX_REJECTED: Final = 50


@dataclass(frozen=True)
class Authorities:
    """A CA list, judged."""

    accepted: Verdict
    ready: Verdict
    content: bytes = b""
    """PEM of all that counts; empty: nothing does."""
    count: int = 0
    pinned: int = 0
    rejected: tuple[RejectedCertificate, ...] = ()
    expiring_next: ExpiringCertificate | None = None
    trust: TrustList | None = None
    """None: disabled, or nothing usable."""


@dataclass(frozen=True)
class _Read:
    content: bytes
    count: int
    pinned: int
    rejected: tuple[RejectedCertificate, ...]
    expiring_next: ExpiringCertificate | None


def judge_all(world: World, now: datetime) -> dict[str, Authorities]:
    """Every CA list of the namespace."""
    return {name: _judge(name, one, world, now) for name, one in world.ca_lists.items()}


def _judge(name: str, ca_list: CAList, world: World, now: datetime) -> Authorities:
    finding = _wrong_type(name, ca_list)
    if finding is not None:
        verdict = accepted(finding)
        return Authorities(verdict, false(Type.READY, finding))
    source = _source(ca_list, world)
    if isinstance(source, Verdict):
        return Authorities(accepted(None), source)
    read = _read(source, now.replace(hour=0, minute=0, second=0, microsecond=0))
    if not read.content:
        text = (
            "no certificate in it can be used: see status.rejected"
            if read.rejected
            else "it holds no certificate"
        )
        return Authorities(accepted(None), false(Type.READY, (Reason.EMPTY, text)), rejected=read.rejected)
    ready = true(Type.READY, Reason.READY)
    trust = None
    if ca_list.spec.enabled:
        trust = TrustList(file=ca_file_name(read.content), is_global=ca_list.spec.scope == "Global")
    else:
        ready = true(Type.READY, Reason.DISABLED, "switched off: none of its certificates is trusted")
    exporting = (Reason.NOT_SUPPORTED, "export is not available in this version: leave it out")
    return Authorities(
        accepted(exporting if ca_list.spec.export else None),
        ready,
        read.content,
        read.count,
        read.pinned,
        read.rejected,
        read.expiring_next,
        trust,
    )


def _wrong_type(name: str, ca_list: CAList) -> Finding | None:
    if ca_list.spec.type == "System" and name != SYSTEM_LIST:
        return Reason.INVALID, f"type System is only for the list named {SYSTEM_LIST}: use Custom"
    return None


def _source(ca_list: CAList, world: World) -> bytes | Verdict:
    spec = ca_list.spec
    if spec.type == "System":
        return world.system_roots
    if spec.certificates is not None:
        return spec.certificates.encode()
    if spec.certificates_from is None:
        return false(Type.READY, (Reason.EMPTY, "neither certificates nor certificatesFrom is set"))
    kind, reference, keeps = _reference(ca_list, world)
    if reference is None:
        return false(
            Type.READY, (Reason.SOURCE_NOT_FOUND, "certificatesFrom names neither ConfigMap nor Secret")
        )
    found = keeps.get(reference.name)
    if isinstance(found, Unreadable):
        return unknown(
            Type.READY, (Reason.PENDING, f"{kind} {reference.name} cannot be read: {found.problem}")
        )
    if found is None:
        return false(Type.READY, (Reason.SOURCE_NOT_FOUND, f"there is no {kind} {reference.name}"))
    if reference.key not in found.data:
        return false(
            Type.READY, (Reason.SOURCE_NOT_FOUND, f"{kind} {reference.name} has no key {reference.key}")
        )
    return found.data[reference.key]


def _reference(ca_list: CAList, world: World):  # noqa: ANN202 - a private triple
    source = ca_list.spec.certificates_from
    if source is not None and source.secret_key_ref is not None:
        return "Secret", source.secret_key_ref, world.secrets
    return "ConfigMap", source.config_map_key_ref if source else None, world.config_maps


@lru_cache(maxsize=512)
def _read(source: bytes, today: datetime) -> _Read:
    """What of `source` counts on the day of `today`; per day, so that expiry is noticed and parsing is not repeated."""
    kept: dict[str, x509.Certificate] = {}
    rejected: list[RejectedCertificate] = []
    pinned = 0
    for number, match in enumerate(_BLOCK.finditer(source), start=1):
        if match[1] not in _CERTIFICATES:
            rejected.append(
                RejectedCertificate(
                    reason=f"block {number} is no certificate but {match[1].decode().lower()}"
                )
            )
            continue
        try:
            certificate = _load(match[0])
            authority, own = _is_authority(certificate), certificate.issuer == certificate.subject
        except ValueError:
            rejected.append(RejectedCertificate(reason=f"block {number} is not a certificate"))
            continue
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        problem = _problem(certificate, today, authority=authority, own=own, known=fingerprint in kept)
        if problem:
            subject = certificate.subject.rfc4514_string()
            rejected.append(RejectedCertificate(subject=subject, fingerprint=fingerprint, reason=problem))
            continue
        kept[fingerprint] = certificate
        pinned += not authority
    content = b"".join(kept[one].public_bytes(serialization.Encoding.PEM) for one in sorted(kept))
    first = min(kept.values(), key=lambda one: one.not_valid_after_utc, default=None)
    expiring = (
        ExpiringCertificate(subject=first.subject.rfc4514_string(), not_after=first.not_valid_after_utc)
        if first
        else None
    )
    return _Read(content, len(kept), pinned, tuple(rejected[:_MAX_REJECTED]), expiring)


def _load(pem: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # Some of Mozilla's roots have a serial number of 0.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_pem_x509_certificate(pem)


def _problem(
    certificate: x509.Certificate, today: datetime, *, authority: bool, own: bool, known: bool
) -> str | None:
    if known:
        return "duplicate"
    if certificate.not_valid_after_utc < today:
        return "expired"
    if not authority and not own:
        return "not a CA: an end-entity certificate counts only if it is self-signed"
    return None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.version == x509.Version.v1 and certificate.issuer == certificate.subject


def ca_files(lists: Mapping[str, Authorities], names: frozenset[str]) -> dict[str, bytes]:
    """The files of the named lists that are enabled."""
    return {
        one.trust.file: one.content for name, one in lists.items() if name in names and one.trust is not None
    }
