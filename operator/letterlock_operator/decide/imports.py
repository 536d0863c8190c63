"""What of a CA list's text counts, certificate by certificate, and what is left out and why (A5).

Called by `authorities`, and by the commands that import and show lists.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from letterlock_api import authorities
from letterlock_api.authorities import Role
from letterlock_api.calist import RejectedCertificate
from letterlock_operator.decide import pems
from letterlock_operator.decide.pems import Block

# At the beginning of a line only: a heading that quotes one begins no block.
_BEGIN: Final = re.compile(rb"^[ \t]*-----BEGIN ([A-Z0-9 ]{1,40})-----", re.MULTILINE)
_NEXT: Final = re.compile(rb"[ \t]*-----BEGIN ([A-Z0-9 ]{1,40})-----")
_MARK: Final = b"\xef\xbb\xbf"  # of Windows' editors
_CERTIFICATES: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"})


@dataclass(frozen=True, eq=False)
class Entry:
    """A certificate of a list. Compared by identity: parsing is remembered, so that the same text gives the same."""

    number: int
    """Of its block in the text, from 1."""
    certificate: x509.Certificate
    pem: bytes
    fingerprint: str
    """sha256, lower-case hex."""
    subject: str
    """RFC 4514."""
    role: Role
    not_before: datetime
    not_after: datetime

    def rejected(self, reason: str) -> RejectedCertificate:
        """It, left out."""
        return RejectedCertificate(subject=self.subject, fingerprint=self.fingerprint, reason=reason)


@dataclass(frozen=True, eq=False)
class Text:
    """A list's text, read: what may count, and what never does."""

    entries: tuple[Entry, ...]
    rejected: tuple[tuple[int, RejectedCertificate], ...]
    """With the number of its block."""


@dataclass(frozen=True)
class Usable:
    """What of a text counts now, and all that does not."""

    entries: tuple[Entry, ...]
    """By fingerprint."""
    rejected: tuple[RejectedCertificate, ...]
    """In the order of the text."""

    @property
    def content(self) -> bytes:
        """PEM of all that counts: the same for the same set, however the text was written."""
        return b"".join(one.pem for one in self.entries)

    @property
    def pinned(self) -> int:
        """Certificates that are trusted for themselves only."""
        return sum(one.role == Role.PINNED for one in self.entries)


NOTHING: Final = Text((), ())


@lru_cache(maxsize=512)
def read(source: bytes) -> Text:
    """What `source` holds. Remembered: nearly every decision sees the same lists again."""
    entries: dict[str, Entry] = {}
    rejected: list[tuple[int, RejectedCertificate]] = []

    def reject(number: int, reason: str, entry: Entry | None = None) -> None:
        rejected.append((number, entry.rejected(reason) if entry else RejectedCertificate(reason=reason)))

    for number, block in enumerate(_blocks(source.removeprefix(_MARK)), start=1):
        if block.label not in _CERTIFICATES:
            reject(number, f"block {number} is no certificate but {block.label.decode().lower()}")
            continue
        if not block.closed:
            reject(number, f"block {number} is not a certificate: its END line is missing")
            continue
        try:
            entry = _entry(number, pems.der(block.body))
        except ValueError:
            reject(number, f"block {number} is not a certificate")
            continue
        problem = _never(entry, known=entry.fingerprint in entries)
        if problem:
            reject(number, problem, entry)
        else:
            entries[entry.fingerprint] = entry
    return Text(tuple(entries.values()), tuple(rejected))


def usable(text: Text, others: Iterable[Text], now: datetime) -> Usable:
    """What of `text` counts at `now`; `others`: the enabled lists, which may hold the roots of intermediates."""
    rejected = list(text.rejected)
    valid: list[Entry] = []
    for one in text.entries:
        if one.not_after <= now:
            rejected.append((one.number, one.rejected(f"expired on {one.not_after:%Y-%m-%d}")))
        else:
            valid.append(one)
    intermediates = [one for one in valid if one.role == Role.INTERMEDIATE]
    if intermediates:
        more = [one for other in others for one in other.entries if one.not_after > now]
        by_subject = _by_subject([*valid, *more])
        for one in intermediates:
            if not _rooted(one, by_subject):
                valid.remove(one)
                issuer = one.certificate.issuer.rfc4514_string()
                text_ = (
                    f"an intermediate whose root is missing: its issuer {issuer}, or the root above, is in no"
                )
                rejected.append((one.number, one.rejected(f"{text_} enabled list")))
    return Usable(
        tuple(sorted(valid, key=lambda one: one.fingerprint)),
        tuple(found for _, found in sorted(rejected, key=lambda pair: pair[0])),
    )


def _blocks(source: bytes) -> Iterator[Block]:
    """Blocks that begin a line, or right behind the END of one that does: files are put together without a line end."""
    begins = list(_BEGIN.finditer(source))
    for following, first in enumerate(begins, start=1):
        stop = begins[following].start() if following < len(begins) else len(source)
        begin: re.Match[bytes] | None = first
        while begin is not None:
            closing = b"-----END " + begin[1] + b"-----"
            end = source.find(closing, begin.end(), stop)
            yield Block(begin[1], source[begin.end() : stop if end < 0 else end], closed=end >= 0)
            begin = _NEXT.match(source, end + len(closing), stop) if end >= 0 else None


def _entry(number: int, der: bytes) -> Entry:
    certificate = authorities.load_der(der)
    return Entry(
        number=number,
        certificate=certificate,
        pem=certificate.public_bytes(serialization.Encoding.PEM),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        subject=certificate.subject.rfc4514_string(),
        role=authorities.role(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _never(entry: Entry, *, known: bool) -> str:
    """Why the certificate never counts, whatever the day; empty: it may."""
    if known:
        return "duplicate"
    if entry.role == Role.SELF_ISSUED:
        return "not a root: it bears its issuer's name, and another key signed it"
    if entry.role == Role.END_ENTITY:
        return "not a CA: an end-entity certificate counts only if it is self-signed"
    return ""


def _by_subject(entries: Iterable[Entry]) -> Mapping[bytes, Sequence[Entry]]:
    found: dict[bytes, list[Entry]] = {}
    for one in entries:
        if one.role in {Role.ROOT, Role.INTERMEDIATE}:
            found.setdefault(one.certificate.subject.public_bytes(), []).append(one)
    return found


def _rooted(entry: Entry, by_subject: Mapping[bytes, Sequence[Entry]]) -> bool:
    """Whether a chain of issuers leads from `entry` to a root."""
    seen: set[str] = set()
    waiting = [entry]
    while waiting:
        one = waiting.pop()
        if one.role == Role.ROOT:
            return True
        if one.fingerprint in seen:
            continue
        seen.add(one.fingerprint)
        issuers = by_subject.get(one.certificate.issuer.public_bytes(), ())
        waiting += [issuer for issuer in issuers if _signed(one, issuer)]
    return False


@lru_cache(maxsize=8192)
def _signed(entry: Entry, issuer: Entry) -> bool:
    return authorities.signed_by(entry.certificate, issuer.certificate)
