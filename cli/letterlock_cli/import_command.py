"""`letterlock certificate import`: key, certificate and intermediates out of a PKCS#12 file (C4).

Registered by `resource_commands`. The file is opened here as the operator opens it, so that what it would refuse is
refused before anything is written, and what is in use stays in use.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from letterlock_cli import certificate_files, descriptions, passphrases, settling
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
    Replace,
    StateDirectory,
    Timeout,
    Wait,
)
from letterlock_cli.output import print_fields, warn
from letterlock_cli.source import Where

if TYPE_CHECKING:
    from letterlock_cli.targets import Target
    from letterlock_operator.decide.chains import Chain
    from letterlock_operator.decide.pems import Refused

_FILE_KEY: Final = "certificate.p12"
_PASSPHRASE_KEY: Final = "passphrase"  # noqa: S105 - a key's name
_OTHER_SOURCES: Final = ("signed", "secretRef", "signerName")


def import_(
    wanted: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="PKCS#12 file, such as mx.p12 ('-': stdin).")],
    *,
    passphrase_file: PassphraseFile = None,
    passphrase_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Environment variable with the passphrase.")
    ] = None,
    passphrase_prompt: Annotated[
        bool, typer.Option("--passphrase-prompt", help="Ask for it even if the file opens without one.")
    ] = False,
    member: Annotated[
        str | None,
        typer.Option(
            "--member", metavar="NAME", help="This member's own (Machine level), such as default-0."
        ),
    ] = None,
    gateway: Gateway = None,
    replace: Replace = False,
    wait: Wait = True,
    timeout: Timeout = 60,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Import a PKCS#12 file: show what is in it, keep it in a Secret, and serve it.

    A file that cannot be used (WrongPassphrase, NoPrivateKey, SeveralKeys, Expired, …) changes nothing. One without
    a private key is a list of CAs: letterlock calist import.

    \b
    Examples:
      letterlock certificate import mx mx.p12 -n mail
      letterlock certificate import mx new.pfx --replace --passphrase-file pass.txt --dir ./mail
      letterlock certificate import mx mx0.p12 --member default-0
    """
    from letterlock_cli.judging import check_certificate
    from letterlock_cli.targets import check, keep, manifest, target

    where = Where(directory, state, namespace, kubeconfig, context)
    content = certificate_files.content(file)
    secret = passphrases.given(passphrase_file, passphrase_env, ask=passphrase_prompt)
    there = target(where)
    present = there.find("Certificate", wanted)
    if present is not None:
        check(present)
    chain, secret = _opened(wanted, file, content, secret)
    print_fields(descriptions.summary(chain.leaf, chain.intermediates, datetime.now(UTC)))
    stem = f"{wanted}-pkcs12"
    template, name = (f"{stem}-{{member}}", f"{stem}-{member}") if member else (stem, stem)

    def put(item: Object) -> None:
        _set_source(item, template, machine=bool(member))

    made = present or manifest("Certificate", wanted, {"gatewayRef": {"name": gateway}} if gateway else {})
    _may_replace(there, wanted, present, template, name, replace=replace)
    put(made)
    check_certificate(there, made)
    _usable(chain, made["spec"], file)
    # An empty passphrase too: the reference is one for all members, whose files may differ.
    data = {_FILE_KEY: content, _PASSPHRASE_KEY: secret or b""}
    print(keep(there, "Secret", name, data, _belongs(wanted)))
    print(there.change("Certificate", wanted, put) if present else there.create(made))
    there.own("Secret", name, made)
    if wait:
        settled = settling.settle(where, wanted, chain.fingerprint, member or "", timeout)
        if settled is not None:
            print_fields(settling.served(settled))
            warn([settled])


def _opened(wanted: str, file: Path, content: bytes, secret: bytes | None) -> tuple["Chain", bytes | None]:
    """What is in the file, and the passphrase that opened it. Raises CommandError where it cannot be used."""
    from letterlock_operator import pkcs12
    from letterlock_operator.decide.pems import Refused

    try:
        try:
            contents = pkcs12.read(content, secret)
        except Refused as refused:
            if refused.reason != "WrongPassphrase" or secret is not None or not sys.stdin.isatty():
                raise
            secret = passphrases.asked()
            contents = pkcs12.read(content, secret)
        if contents.key is None:
            raise CommandError(
                f"NoPrivateKey: {file} holds no private key: if its certificates are to be trusted,"
                f" letterlock calist import {wanted} {file}"
            )
        chain = pkcs12.chain_in(contents)
    except Refused as refused:
        hint = ""
        if refused.reason == "WrongPassphrase" and secret is None:
            hint = " (--passphrase-file, --passphrase-env)"
        raise _changed_nothing(refused, file, hint) from refused
    return chain, secret


def _usable(chain: "Chain", spec: Object, file: Path) -> None:
    """Raise CommandError where the operator would open the file, and then not serve what is in it."""
    from letterlock_operator import pkcs12
    from letterlock_operator.decide.pems import Refused

    try:
        pkcs12.check(chain, spec.get("level") or "Cluster", datetime.now(UTC))
    except Refused as refused:
        raise _changed_nothing(refused, file) from refused


def _changed_nothing(refused: "Refused", file: Path, hint: str = "") -> CommandError:
    return CommandError(f"{certificate_files.refusal(refused, file)}{hint}; nothing was changed")


def _may_replace(
    there: "Target", wanted: str, present: Object | None, template: str, name: str, *, replace: bool
) -> None:
    """Raise CommandError where something would be replaced that nobody said should be."""
    if present is None:
        return
    spec = part(present, "spec")
    ours = part(part(spec, "pkcs12"), "secretKeyRef").get("name") == template
    if ours and there.find("Secret", name) is None:
        return  # a member whose own was missing
    if not replace:
        raise CommandError(
            f"Certificate {wanted} is there already: give --replace to serve this file in its place"
            " (certificate export keeps a copy of the present one); nothing was changed"
        )
    if not part(spec, "pkcs12") and "secretRef" not in spec:
        print("warning: the key that was made here is replaced, and its requests with it", file=sys.stderr)
    if not ours:
        _tell_of_members_without(there, wanted, present, template, name)


def _tell_of_members_without(there: "Target", wanted: str, present: Object, template: str, name: str) -> None:
    """Warn of the members that need a file of their own too, now that each is to bring one."""
    if template == name:
        return
    entries: list[Object] = part(present, "status").get("members") or []
    files = {str(one["name"]): template.replace("{member}", str(one["name"])) for one in entries}
    missing = [one for one, file in files.items() if file != name and there.find("Secret", file) is None]
    if missing or not files:
        print(
            f"warning: {', '.join(missing) or 'all other members'} need a file of their own from now on:"
            f" letterlock certificate import {wanted} FILE --member {missing[0] if missing else 'MEMBER'}",
            file=sys.stderr,
        )


def _set_source(item: Object, template: str, *, machine: bool) -> None:
    from letterlock_cli.targets import spec_of

    spec = spec_of(item)
    for other in _OTHER_SOURCES:
        spec.pop(other, None)
    if machine:
        spec["level"] = "Machine"
    spec["pkcs12"] = {
        "secretKeyRef": {"name": template, "key": _FILE_KEY},
        "passphraseSecretKeyRef": {"name": template, "key": _PASSPHRASE_KEY},
    }


def _belongs(certificate: str) -> Mapping[str, str]:
    """The label that says whose it is; values of labels end at 63 characters."""
    return {"letterlock.dev/certificate": certificate} if len(certificate) <= 63 else {}
