"""`letterlock calist import` and `export`: CA lists as text files, there and back (A2, A4, A5).

Registered by `resource_commands`. What counts is judged as the operator judges it, beside the lists that are there.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from letterlock_api import listings
from letterlock_cli import ca_lists, certificate_files, passphrases
from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, part
from letterlock_cli.options import (
    Context,
    Directory,
    Gateway,
    Kubeconfig,
    Name,
    Namespace,
    PassphraseFile,
    StateDirectory,
)
from letterlock_cli.output import line
from letterlock_cli.source import Where

if TYPE_CHECKING:
    from letterlock_cli.targets import Target
    from letterlock_operator.decide.imports import Entry, Usable

# Larger ones go into a ConfigMap: `kubectl apply` keeps a copy of what it applies in an annotation, which ends at
# 256 KiB, and nobody wants to edit a manifest with hundreds of certificates.
INLINE: Final = 64 << 10
_SYSTEM: Final = "system"
# As many as a status shows: what is wrong with more is that it is another kind of file.
_SHOWN: Final = 50


def import_(
    wanted: Name,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="CA certificates: PEM text, DER, PKCS#7 or PKCS#12 ('-': stdin)."
        ),
    ],
    *,
    scope: Annotated[
        Literal["Global", "Referenced"] | None,
        typer.Option(
            case_sensitive=False,
            help="Global (default): counts for every peer. Referenced: where it is named.",
        ),
    ] = None,
    gateway: Gateway = None,
    passphrase_file: PassphraseFile = None,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Import a file of CA certificates as a list, in place of an earlier one of this name.

    What cannot count is left out and named: expired, duplicate, not a CA, an intermediate whose root is missing, not
    a certificate. A self-signed end-entity certificate is trusted for itself only. A file with nothing that counts is
    refused, and the earlier list stays.

    \b
    Examples:
      letterlock calist import partners partners.txt -n mail
      letterlock calist import bank bank-ca.pem --scope Referenced --dir ./mail
    """
    from letterlock_cli.targets import check, target

    if wanted == _SYSTEM:
        raise CommandError("the system list comes with the product: import the file under another name")
    where = Where(directory, state, namespace, kubeconfig, context)
    pem = _pem(file, passphrase_file)
    there = target(where)
    present = there.find("CAList", wanted)
    if present is not None:
        check(present)
    before = ca_lists.counting(where, there, wanted) if present is not None else ()
    choice = {"scope": scope, "gatewayRef": {"name": gateway} if gateway else None}
    spec = {key: value for key, value in choice.items() if value is not None}
    now = datetime.now(UTC)
    usable = ca_lists.offered(where, there, wanted, {**part(present or {}, "spec"), **spec}, pem, now)
    _report(usable)
    _refuse(usable, file)
    for done in _write(there, wanted, spec, present, usable):
        print(done)
    if present is not None:
        _compare(before, usable.entries)
    _warn(usable.entries, now)


def export(
    wanted: Name,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Text file to write. Default: stdout.")
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Write what counts of a list as a text file: PEM, with a heading for each CA.

    It can be edited, and imported again under this or another name.

    \b
    Examples:
      letterlock calist export system authorities.txt -n mail
      letterlock calist export partners --dir ./mail | grep Subject
    """
    from letterlock_cli.targets import target

    where = Where(directory, state, namespace, kubeconfig, context)
    entries = ca_lists.counting(where, target(where), wanted)
    if not entries:
        raise CommandError(f"nothing in CAList {wanted} counts now: letterlock calist show {wanted} says why")
    text = listings.text(wanted, entries)
    if file is None or str(file) == "-":
        print(text, end="")
        return
    try:
        with file.open("w" if force else "x") as opened:
            opened.write(text)
    except FileExistsError as error:
        raise CommandError(f"{file} is there already: choose another name, or give --force") from error
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from error
    print(f"{file} written: {_certificates(len(entries))}", file=sys.stderr)


def _pem(file: Path, passphrase_file: Path | None) -> bytes:
    """The text of the file. Raises CommandError."""
    from letterlock_operator import pkcs12
    from letterlock_operator.decide.pems import Refused

    content = certificate_files.content(file)
    found = certificate_files.pem(content)
    if found is None and certificate_files.is_pkcs12(content):
        try:
            contents = pkcs12.read(content, passphrases.given(passphrase_file, None, ask=False))
        except Refused as refused:
            hint = (
                " (--passphrase-file)"
                if refused.reason == "WrongPassphrase" and passphrase_file is None
                else ""
            )
            raise CommandError(f"{certificate_files.refusal(refused, file)}{hint}") from refused
        if contents.key is not None:
            print("warning: there is a private key in it, which is left out", file=sys.stderr)
        return contents.certificates_pem
    if found is None:
        raise CommandError(
            f"InvalidPEM: {file} holds no certificate that can be read: give PEM (-----BEGIN CERTIFICATE-----)"
        )
    return found


def _report(usable: "Usable") -> None:
    """How many count, and each that does not, with its reason."""
    pinned = f", {usable.pinned} of them for itself only" if usable.pinned else ""
    print(f"{_certificates(len(usable.entries))} that count{'s' if len(usable.entries) == 1 else ''}{pinned}")
    for one in usable.rejected[:_SHOWN]:
        what = f"{line(one.subject)} (sha256 {one.fingerprint[:16]}…): " if one.fingerprint else ""
        print(f"left out: {what}{line(one.reason)}")
    if len(usable.rejected) > _SHOWN:
        print(f"left out: {len(usable.rejected) - _SHOWN} more")


def _refuse(usable: "Usable", file: Path) -> None:
    from letterlock_operator.decide.authorities import MAX_CONTENT

    if not usable.entries:
        raise CommandError(f"Empty: no certificate in {file} can count; nothing was changed")
    if len(usable.content) > MAX_CONTENT:
        raise CommandError(
            f"TooLarge: a list ends at {MAX_CONTENT >> 10} KiB, PEM: make several lists of it; nothing was changed"
        )


def _write(
    there: "Target", wanted: str, given: dict[str, Any], present: Object | None, usable: "Usable"
) -> list[str]:
    """Write what counts, with its headings; large lists into a ConfigMap. Gives what was done."""
    from letterlock_cli.targets import check, keep, manifest, spec_of

    text = listings.text(wanted, usable.entries)
    name, key = f"{wanted}-ca-list", f"{wanted}.txt"
    reference = {"configMapKeyRef": {"name": name, "key": key}}
    apart = len(text) > INLINE or part(part(present or {}, "spec"), "certificatesFrom") == reference
    content = {"certificatesFrom": reference} if apart else {"certificates": text}

    def put(item: Object) -> None:
        spec = spec_of(item)
        for source in ("certificates", "certificatesFrom"):
            if source not in content:
                spec.pop(source, None)
        spec.update({**given, **content})

    made = present or manifest("CAList", wanted, {})
    put(made)
    check(made)
    done = [keep(there, "ConfigMap", name, {key: text.encode()}, {})] if apart else []
    done.append(there.change("CAList", wanted, put) if present else there.create(made))
    if apart:
        there.own("ConfigMap", name, made)
    return done


def _compare(before: Sequence["Entry"], after: Sequence["Entry"]) -> None:
    old, new = {one.fingerprint for one in before}, {one.fingerprint for one in after}
    print(f"in place of the earlier list: {len(new - old)} new, {len(old - new)} gone", file=sys.stderr)


def _warn(entries: Sequence["Entry"], now: datetime) -> None:
    from letterlock_operator.decide import expiry

    warning = expiry.warning(entries, now)
    if warning is not None:
        print(f"warning: {warning.type}: {line(warning.message)}", file=sys.stderr)


def _certificates(count: int) -> str:
    return f"{count} certificate{'' if count == 1 else 's'}"
