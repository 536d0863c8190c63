"""Commands that show resources: `list` and `show` per kind; and which groups of commands there are.

Called by `main`, which registers them.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from letterlock_cli import (
    calist_commands,
    certificate_commands,
    create_command,
    descriptions,
    import_command,
    passphrases,
    status_command,
    upload_command,
)
from letterlock_cli.columns import LISTINGS, Listing
from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, conditions, name, part
from letterlock_cli.options import (
    Context,
    Directory,
    Kubeconfig,
    Member,
    Name,
    Namespace,
    Output,
    PassphraseFile,
    StateDirectory,
)
from letterlock_cli.output import Format, condition, print_fields, print_objects, print_table, warn
from letterlock_cli.source import Where, resource, resources, secret

_OF_ONE_CERTIFICATE: Final = (
    "subject",
    "issuer",
    "serialNumber",
    "fingerprint",
    "notBefore",
    "notAfter",
    "dnsNames",
    "commonName",
)
_GROUP_HELP: Final = {
    "certificate": """Certificates: make them, have them signed, import and export them, see what uses them.

    \b
    Made here:        create, and nothing else: it is renewed by itself
    Signed by a CA:   create, csr, upload
    From elsewhere:   import (PKCS#12)
    """,
    "listener": "Listeners: where mail comes in, and under which TLS policy.",
    "destination": "Destination controls: how mail is delivered.",
    "calist": "CA lists: whom peers' certificates are verified against; import and export as text files.",
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(status_command.status)
    groups = {
        group: typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
        for group, text in _GROUP_HELP.items()
    }
    for listing in LISTINGS:
        call = f"letterlock {listing.group} list"
        words = (
            f"{listing.help}\n\n\b\nExamples:\n  {call} -n mail\n  {call} -o json --dir examples/quickstart"
        )
        groups[listing.group].command("list", help=words, short_help=listing.help)(_list_command(listing))
    for (group, command), (function, short_help) in _COMMANDS.items():
        groups[group].command(command, short_help=short_help)(function)
    for group, commands in groups.items():
        app.add_typer(commands, name=group)


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
    member: Member = None,
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
    item = resource(where, "Certificate", wanted)
    if output is not Format.TABLE:
        print_objects([item], output, single=True)
        return
    chain = secret(where, certificate_commands.secret_name(item, member)).get("tls.crt")
    if chain is None:
        raise CommandError(f"the Secret of certificate {wanted} has no tls.crt yet: see its Ready condition")
    left_out = ("request", "expires", "members", "usedBy", "renewalTime", "next")
    # At Machine level the status has one member's: the chain below is that which was asked for.
    own = _OF_ONE_CERTIFICATE if part(item, "status").get("members") else ()
    _print_fields(item, (*left_out, *own))
    for key, value in certificate_commands.use_text(item):
        print(f"{key}: {value}")
    print("Certificate chain")
    print(descriptions.chain_text(chain))
    warn([item])


def certificate_request(
    wanted: Name,
    *,
    member: Member = None,
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
    print(certificate_commands.request(resource(where, "Certificate", wanted), member)[1].strip())


def export_certificate(
    wanted: Name,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="PKCS#12 file to write, such as mx.p12 ('-': stdout).")
    ],
    *,
    member: Member = None,
    passphrase_file: PassphraseFile = None,
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
    item = resource(where, "Certificate", wanted)
    data = secret(where, certificate_commands.secret_name(item, member))
    given = passphrases.for_export(passphrase_file)
    friendly = wanted + (f" ({member})" if member else "")
    certificate_commands.export(data, friendly, given, file, force=force)
    warn([item])
    print(
        f"{'file' if str(file) == '-' else file} written: {part(item, 'status').get('subject') or wanted}",
        file=sys.stderr,
    )


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
    r"""Show one CA list: how much of it counts, what was left out and why, what ends next.

    \b
    Examples:
      letterlock calist show system -n mail
      letterlock calist show mailbox -o yaml --dir examples/quickstart
    """
    item = resource(Where(directory, state, namespace, kubeconfig, context), "CAList", wanted)
    if output is not Format.TABLE:
        print_objects([item], output, single=True)
        return
    _print_fields(item, ())
    warn([item])


def _print_fields(item: Object, left_out: Sequence[str]) -> None:
    """The status, one field a line, then the conditions."""
    fields: Object = part(item, "status")
    skipped = {"conditions", "observedGeneration", *left_out}
    rows = [("name", name(item))]
    rows += [(key, _plain(value)) for key, value in fields.items() if key not in skipped and value != []]
    for one in conditions(item):
        rows.append((one["type"], f"{condition(item, one['type'])}  {one.get('message', '')}".rstrip()))
    print_fields(rows)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in cast("list[Any]", value))
    if isinstance(value, dict):
        return " ".join(f"{key}={one}" for key, one in cast("dict[str, Any]", value).items())
    return str(value)


# In the order in which their groups list them; help is one line in such a list.
_COMMANDS: Final[dict[tuple[str, str], tuple[Callable[..., None], str]]] = {
    ("certificate", "show"): (show_certificate, "One of them with its whole chain, as openssl prints it."),
    ("certificate", "create"): (
        create_command.create,
        "Make a key, a self-signed certificate, and a request for a CA.",
    ),
    ("certificate", "csr"): (certificate_request, "Print the request, for a CA to sign."),
    ("certificate", "upload"): (
        upload_command.upload,
        "Put what a CA signed in place of the self-signed one.",
    ),
    ("certificate", "import"): (import_command.import_, "Take key and certificate from a PKCS#12 file."),
    ("certificate", "export"): (export_certificate, "Write key and certificate to a PKCS#12 file."),
    ("calist", "show"): (show_ca_list, "How much of one counts, and what was left out and why."),
    ("calist", "import"): (
        calist_commands.import_,
        "Make a list of a file with CA certificates, or replace one.",
    ),
    ("calist", "export"): (
        calist_commands.export,
        "Write a list as a text file, to edit and import again.",
    ),
}
