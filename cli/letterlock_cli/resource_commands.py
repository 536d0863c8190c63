"""Commands that show resources: `status`, and `list` and `show` per kind.

Called by `main`, which registers them.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from letterlock_cli import certificate_commands
from letterlock_cli.columns import LISTINGS, Listing
from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, conditions, name, part
from letterlock_cli.output import Format, condition, print_objects, print_table, warn
from letterlock_cli.source import Where, resources, secret

Directory = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Folder that `letterlock up` serves, instead of a cluster."),
]
StateDirectory = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Its state, where `up` got a --state too.")
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace. Default: the context's.")
]
Kubeconfig = Annotated[str | None, typer.Option(metavar="FILE", help="Kubeconfig. Default: as kubectl.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig. Default: the current one.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="Form of the output.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the resource.")]

_GROUP_HELP: Final = {
    "certificate": "Certificates: what there is, until when, and what uses it.",
    "listener": "Listeners: where mail comes in, and under which TLS policy.",
    "destination": "Destination controls: how mail is delivered.",
    "calist": "CA lists: whom peers' certificates are verified against.",
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(status)
    groups = {
        group: typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
        for group, text in _GROUP_HELP.items()
    }
    for listing in LISTINGS:
        groups[listing.group].command("list", help=listing.help)(_list_command(listing))
    groups["certificate"].command("show")(show_certificate)
    groups["certificate"].command("csr")(certificate_request)
    groups["certificate"].command("export")(export_certificate)
    groups["calist"].command("show")(show_ca_list)
    for group, commands in groups.items():
        app.add_typer(commands, name=group)


def status(
    *,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    r"""Show every resource with its conditions.

    Programmed is True where every gateway member runs exactly what the resource says now.

    \b
    Examples:
      letterlock status -n mail
      letterlock status --dir examples/quickstart
    """
    found = resources(Where(directory, state, namespace, kubeconfig, context))
    if output is not Format.TABLE:
        print_objects(found, output)
        return
    rows = [
        (
            item["kind"],
            name(item),
            condition(item, "Accepted"),
            condition(item, "Programmed"),
            _what_is_wrong(item),
        )
        for item in found
    ]
    print_table(("KIND", "NAME", "ACCEPTED", "PROGRAMMED", "MESSAGE"), rows, "no resources")
    warn(found)


def _list_command(listing: Listing) -> Callable[..., None]:
    def command(
        *,
        directory: Directory = None,
        state: StateDirectory = None,
        namespace: Namespace = None,
        kubeconfig: Kubeconfig = None,
        context: Context = None,
        output: Output = Format.TABLE,
    ) -> None:
        found = resources(Where(directory, state, namespace, kubeconfig, context), listing.kind)
        if output is not Format.TABLE:
            print_objects(found, output)
        else:
            print_table(listing.headings, [listing.cells(item) for item in found], f"no {listing.kind}")
        warn(found)

    return command


def show_certificate(
    wanted: Name,
    *,
    member: certificate_commands.Member = None,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    r"""Show one certificate and its whole chain, as openssl does: who, by whom, until when, what uses it, PEM.

    The key is never printed.

    \b
    Example:
      letterlock certificate show mx --dir examples/quickstart | openssl x509 -noout -text
    """
    where = Where(directory, state, namespace, kubeconfig, context)
    item = _one(where, "Certificate", wanted)
    if output is not Format.TABLE:
        print_objects([item], output, single=True)
        return
    chain = secret(where, certificate_commands.secret_name(item, member)).get("tls.crt")
    if chain is None:
        raise CommandError(f"the Secret of certificate {wanted} has no tls.crt yet: see its Ready condition")
    _print_fields(item, ("request", "expires", "members", "usedBy", "renewalTime", "next"))
    for key, value in certificate_commands.use_text(item):
        print(f"{key}: {value}")
    print("Certificate chain")
    print(certificate_commands.chain_text(chain))
    warn([item])


def certificate_request(
    wanted: Name,
    *,
    member: certificate_commands.Member = None,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Print the certificate signing request for the key that was made here, PEM, for a CA to sign.

    What the CA gives back goes into spec.signed of the Certificate.

    \b
    Examples:
      letterlock certificate csr mx -n mail > mx.csr
      letterlock certificate csr mx --member default-0 | openssl req -noout -text
    """
    where = Where(directory, state, namespace, kubeconfig, context)
    print(certificate_commands.request(_one(where, "Certificate", wanted), member).strip())


def export_certificate(
    wanted: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="PKCS#12 file to write, such as mx.p12.")],
    *,
    member: certificate_commands.Member = None,
    passphrase_file: certificate_commands.PassphraseFile = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Write key, certificate and intermediates to a PKCS#12 file, encrypted with a passphrase of your choice.

    The file is readable by you alone. On a cluster you need the right to read the Secret.

    \b
    Examples:
      letterlock certificate export mx mx.p12 -n mail
      letterlock certificate export mx mx.p12 --passphrase-file pass.txt --dir examples/quickstart
    """
    where = Where(directory, state, namespace, kubeconfig, context)
    item = _one(where, "Certificate", wanted)
    data = secret(where, certificate_commands.secret_name(item, member))
    given = certificate_commands.passphrase(passphrase_file)
    friendly = wanted + (f" ({member})" if member else "")
    certificate_commands.export(data, friendly, given, file, force=force)
    warn([item])
    print(f"{file} written: {part(item, 'status').get('subject') or wanted}", file=sys.stderr)


def show_ca_list(
    wanted: Name,
    *,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Show one CA list: how much of it counts, what was left out and why, what ends next."""
    item = _one(Where(directory, state, namespace, kubeconfig, context), "CAList", wanted)
    if output is not Format.TABLE:
        print_objects([item], output, single=True)
        return
    _print_fields(item, ())
    warn([item])


def _one(where: Where, kind: str, wanted: str) -> Object:
    found = resources(where, kind)
    for item in found:
        if name(item) == wanted:
            return item
    have = ", ".join(name(item) for item in found) or "none"
    raise CommandError(f"there is no {kind} {wanted}; there are: {have}")


def _print_fields(item: Object, left_out: Sequence[str]) -> None:
    """The status, one field a line, then the conditions."""
    fields: Object = part(item, "status")
    skipped = {"conditions", "observedGeneration", *left_out}
    rows = [("name", name(item))]
    rows += [(key, _plain(value)) for key, value in fields.items() if key not in skipped and value != []]
    for one in conditions(item):
        rows.append((one["type"], f"{condition(item, one['type'])}  {one.get('message', '')}".rstrip()))
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        print(f"{key.ljust(width)}   {value}")


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in cast("list[Any]", value))
    if isinstance(value, dict):
        return " ".join(f"{key}={one}" for key, one in cast("dict[str, Any]", value).items())
    return str(value)


def _what_is_wrong(item: Object) -> str:
    """What the first condition that is False says."""
    for one in conditions(item):
        if one["status"] == "False":
            return " ".join(str(one.get("message", "")).split())
    return ""
