"""Commands on one certificate: its chain as openssl shows it, its request, and its PKCS#12 export (C2, C5, C6).

Called by `resource_commands`, which registers them.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, items, name, part, texts

Member = Annotated[
    str | None,
    typer.Option("--member", metavar="NAME", help="Which member's, where each has its own (Machine level)."),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with the passphrase ('-': stdin). Default: it is asked for."),
]
_TIME: Final = "%b %e %H:%M:%S %Y GMT"
_PRIVATE: Final = 0o600


def request(certificate: Object, member: str | None) -> str:
    """The signing request to print, PEM. Raises CommandError."""
    status = part(certificate, "status")
    if member is None and status.get("request"):
        return str(status["request"])
    found = {str(one["name"]): str(one.get("request") or "") for one in items(status, "members")}
    if member is None and len(found) == 1:
        member = next(iter(found))
    if member is None and found:
        raise CommandError(f"each member has its own request: give --member, one of {', '.join(found)}")
    if member and found.get(member):
        return found[member]
    if member and found:
        raise CommandError(f"there is no request of member {member}; there are: {', '.join(found)}")
    raise CommandError(
        f"certificate {name(certificate)} has no request: only those with a key made here have one, once it is made"
    )


def secret_name(certificate: Object, member: str | None) -> str:
    """The Secret that holds its key and chain. Raises CommandError."""
    reference = part(part(certificate, "spec"), "secretRef")
    members = [str(one["name"]) for one in items(part(certificate, "status"), "members")]
    if member is None and members:
        if len(members) > 1:
            raise CommandError(f"each member has its own: give --member, one of {', '.join(members)}")
        member = members[0]
    if member is not None and member not in members:
        raise CommandError(
            f"there is no certificate of member {member}; there are: {', '.join(members) or 'none'}"
        )
    template = str(reference.get("name") or f"letterlock-cert-{name(certificate)}")
    if not member:
        return template
    if not reference:
        return f"{template}-{member}"
    return template.replace("{member}", member).replace("{ordinal}", member.rpartition("-")[2])


def chain_text(pem: bytes) -> str:
    """The chain as `openssl s_client -showcerts` prints one: who, by whom, which key, until when, then the PEM."""
    return "\n".join(
        f"{number:2} {_described(one)}\n{one.public_bytes(serialization.Encoding.PEM).decode().strip()}"
        for number, one in enumerate(x509.load_pem_x509_certificates(pem))
    )


def _described(one: x509.Certificate) -> str:
    key = one.public_key()
    size = getattr(key, "key_size", None)
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        listed = ", ".join(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        listed = ""
    lines = [
        f"s:{one.subject.rfc4514_string()}",
        f"i:{one.issuer.rfc4514_string()}",
        f"a:{type(key).__name__.removesuffix('PublicKey')}" + (f", {size} bits" if size else ""),
        f"v:NotBefore: {one.not_valid_before_utc:{_TIME}}; NotAfter: {one.not_valid_after_utc:{_TIME}}",
        f"serial:{one.serial_number:X}",
        f"sha256:{one.fingerprint(hashes.SHA256()).hex()}",
        *([f"names:{listed}"] if listed else []),
    ]
    return "\n   ".join(lines)


def use_text(certificate: Object) -> list[tuple[str, str]]:
    """What uses it and when it renews, for the fields above the chain."""
    status = part(certificate, "status")
    return [
        ("used by", ", ".join(texts(status, "usedBy")) or "nothing"),
        ("renews", str(status.get("renewalTime") or "not by itself")),
    ]


def passphrase(file: Path | None) -> bytes:
    """The passphrase for an export: from a file, from stdin, or asked for twice. Raises CommandError."""
    if file is None:
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to ask for the passphrase: give --passphrase-file FILE")
        given = str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True)).encode()
    else:
        try:
            given = sys.stdin.buffer.readline() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise CommandError(f"cannot read {file}: {error.strerror}") from error
    given = given.rstrip(b"\r\n")
    if not given:
        raise CommandError("the passphrase is empty: a key is never exported without one")
    return given


def export(data: dict[str, bytes], friendly: str, secret: bytes, target: Path, *, force: bool) -> None:
    """Write the PKCS#12 file, readable by its owner alone. Raises CommandError."""
    from letterlock_operator import pkcs12
    from letterlock_operator.decide.chains import read
    from letterlock_operator.decide.pems import Refused
    from letterlock_operator.plan import ExportedFile

    try:
        chain = read(data.get("tls.key", b""), data.get("tls.crt", b""), data.get("ca.crt", b""))
    except Refused as refused:
        raise CommandError(f"there is nothing to export: {refused}") from refused
    content = pkcs12.write(ExportedFile(target.name, friendly, chain.pem, secret))
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(target, flags, _PRIVATE)
    except FileExistsError as error:
        raise CommandError(f"{target} is there already: choose another name, or give --force") from error
    except OSError as error:
        raise CommandError(f"cannot write {target}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), _PRIVATE)
        file.write(content)
