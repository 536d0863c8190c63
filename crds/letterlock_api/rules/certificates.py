"""Rules for Certificates."""

from collections.abc import Iterator
from typing import Any, Final

from letterlock_api.certificate import CertificateSpec, PrivateKey, Signed
from letterlock_api.rules.rule import Rule, one_source

# Cluster level by what is said, or by what is imported.
_CLUSTER: Final = "(has(self.level) ? self.level == 'Cluster' : has(self.secretRef) || has(self.pkcs12))"
_MADE_HERE: Final = "!has(self.pkcs12) && !has(self.secretRef)"
_TEMPLATES: Final = (
    "subject.commonName",
    "subject.organization",
    "subject.organizationalUnit",
    "subject.locality",
    "subject.state",
    "pkcs12.secretKeyRef.name",
    "pkcs12.secretKeyRef.key",
    "pkcs12.passphraseSecretKeyRef.name",
    "pkcs12.passphraseSecretKeyRef.key",
    "secretRef.name",
    "export.pkcs12.secretName",
    "export.pkcs12.fileName",
    "export.pkcs12.passphraseSecretKeyRef.name",
    "export.pkcs12.passphraseSecretKeyRef.key",
)
_PLACEHOLDERS: Final = ("{member}", "{ordinal}")


def _is_cluster(spec: CertificateSpec) -> bool:
    return spec.level_in_force == "Cluster"


def _templates(spec: CertificateSpec) -> Iterator[str | None]:
    """Every text in which a placeholder may stand."""
    subject = spec.subject
    yield from (subject.common_name, subject.organization, subject.organizational_unit)
    yield from (subject.locality, subject.state, *spec.dns_names)
    if spec.secret_ref:
        yield spec.secret_ref.name
    export = spec.export.pkcs12 if spec.export else None
    if export:
        yield from (export.secret_name, export.file_name)
    keys = (
        spec.pkcs12.secret_key_ref if spec.pkcs12 else None,
        spec.pkcs12.passphrase_secret_key_ref if spec.pkcs12 else None,
        export.passphrase_secret_key_ref if export else None,
    )
    for key in keys:
        if key:
            yield from (key.name, key.key)


def _has_placeholder(spec: CertificateSpec) -> bool:
    return any(word in text for text in _templates(spec) if text for word in _PLACEHOLDERS)


def _is_cluster_capable(spec: CertificateSpec) -> bool:
    return bool(spec.dns_names) or "*" in (spec.subject.common_name or "")


def _sources(spec: CertificateSpec) -> int:
    return sum(source is not None for source in (spec.pkcs12, spec.secret_ref, spec.signer_name))


def _size_fits(key: PrivateKey) -> bool:
    sizes = (1024, 2048, 3072, 4096) if key.algorithm == "RSA" else (256, 384)
    return key.size is None or key.size in sizes


def _one_certificate(signed: Signed) -> bool:
    return (signed.certificate is None) != (signed.certificate_from is None)


def _contains(text: str) -> str:
    return " || ".join(f"{text}.contains('{word}')" for word in _PLACEHOLDERS)


def _plain(path: str) -> str:
    """CEL: no placeholder stands at `path`. `orValue` would be shorter, but hides the length: too dear."""
    steps = path.split(".")
    present = [f"has(self.{'.'.join(steps[:end])})" for end in range(1, len(steps) + 1)]
    return f"!({' && '.join(present)} && ({_contains(f'self.{path}')}))"


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule[CertificateSpec](
        "spec",
        "[has(self.pkcs12), has(self.secretRef), has(self.signerName)].filter(source, source).size() <= 1",
        "pkcs12, secretRef and signerName exclude one another: keep one of them",
        lambda spec: _sources(spec) <= 1,
    ),
    Rule[CertificateSpec](
        "spec",
        "!has(self.signed) || self.signed.size() == 0 ||"
        " !has(self.pkcs12) && !has(self.secretRef) && !has(self.signerName)",
        "signed is for requests of keys made here: remove it, or remove pkcs12, secretRef and signerName",
        lambda spec: not spec.signed or _sources(spec) == 0,
    ),
    Rule[CertificateSpec](
        "spec",
        f"!{_CLUSTER} || {' && '.join(map(_plain, _TEMPLATES))}"
        f" && (!has(self.dnsNames) || !self.dnsNames.exists(t, {_contains('t')}))",
        "{member} and {ordinal} have a meaning only where every member has its own certificate:"
        " set level: Machine, or remove them",
        lambda spec: not _is_cluster(spec) or not _has_placeholder(spec),
    ),
    Rule[CertificateSpec](
        "spec",
        f"!{_CLUSTER} || !({_MADE_HERE}) || has(self.dnsNames) && self.dnsNames.size() > 0 ||"
        " has(self.subject) && has(self.subject.commonName) && self.subject.commonName.contains('*')",
        "one certificate for all members (level Cluster) needs dnsNames or a wildcard as commonName"
        " (NotClusterCapable)",
        lambda spec: not _is_cluster(spec) or spec.brought or _is_cluster_capable(spec),
    ),
    Rule[CertificateSpec](
        "spec",
        f"!{_CLUSTER} || !has(self.signed) || self.signed.all(s, !has(s.member) || s.member == '')",
        "at Cluster level there is one request for all members:"
        " leave out signed[].member, or set level: Machine",
        lambda spec: not _is_cluster(spec) or not any(signed.member for signed in spec.signed),
    ),
    Rule[CertificateSpec](
        "spec",
        "!has(self.renewal) || !has(self.renewal.beforeDays) || self.renewal.beforeDays < self.days",
        "renewal.beforeDays must be less than days: else every certificate would be renewed at once",
        lambda spec: spec.renewal.before_days is None or spec.renewal.before_days < spec.days,
    ),
    Rule[PrivateKey](
        "spec.privateKey",
        "!has(self.size) || (self.algorithm == 'RSA' ? self.size in [1024, 2048, 3072, 4096] :"
        " self.size in [256, 384])",
        "size does not go with algorithm: RSA takes 1024, 2048, 3072 or 4096, ECDSA takes 256 or 384",
        _size_fits,
    ),
    Rule[Signed](
        "spec.signed[]",
        "has(self.certificate) != has(self.certificateFrom)",
        "give the signed certificate exactly once: certificate or certificateFrom",
        _one_certificate,
    ),
    Rule[Signed](
        "spec.signed[]",
        "!has(self.intermediates) || !has(self.intermediatesFrom)",
        "give intermediates once: intermediates or intermediatesFrom",
        lambda signed: signed.intermediates is None or signed.intermediates_from is None,
    ),
    one_source("spec.signed[].certificateFrom"),
    one_source("spec.signed[].intermediatesFrom"),
)
