"""`letterlock certificate create`: a certificate that is made here (C1). Registered by `resource_commands`."""

import re
from typing import Annotated, Any, Final, Literal

import typer

from letterlock_cli.failures import CommandError
from letterlock_cli.options import Context, Directory, Gateway, Kubeconfig, Namespace
from letterlock_cli.source import Where

_PLACEHOLDER: Final = re.compile(r"[-.]?\{(?:member|ordinal)\}")
# Of an object; what Secrets with keys are named after it needs room too.
_LONGEST: Final = 180


def create(
    wanted: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Name of the resource. Default: from the common name.", show_default=False
        ),
    ] = None,
    *,
    common_name: Annotated[
        str | None, typer.Option(help="Fully qualified domain name, such as mx.example.com or *.example.com.")
    ] = None,
    organization: Annotated[str | None, typer.Option(help="Such as 'Example Ltd'.")] = None,
    organizational_unit: Annotated[str | None, typer.Option(help="Such as Mail.")] = None,
    locality: Annotated[str | None, typer.Option(help="City.")] = None,
    state: Annotated[str | None, typer.Option(help="State or province.")] = None,
    country: Annotated[str | None, typer.Option(help="Two-letter ISO 3166 code, such as DE.")] = None,
    dns_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Another name that it is for (repeatable, or separated by commas)."
        ),
    ] = None,
    days: Annotated[int | None, typer.Option(help="Days until it expires. Default: 365.")] = None,
    algorithm: Annotated[
        Literal["RSA", "ECDSA"] | None, typer.Option(case_sensitive=False, help="Default: RSA.")
    ] = None,
    key_size: Annotated[
        int | None,
        typer.Option(help="RSA: 1024, 2048 (default), 3072, 4096; ECDSA: 256 (default), 384."),
    ] = None,
    level: Annotated[
        Literal["Machine", "Cluster"] | None,
        typer.Option(
            case_sensitive=False,
            help="Machine: one per member (default). Cluster: one for all, with --dns-name or a wildcard.",
        ),
    ] = None,
    signer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask this Kubernetes signer, such as example.com/mail.")
    ] = None,
    gateway: Gateway = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the manifest, and write nothing.")
    ] = False,
    directory: Directory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Make a key and a self-signed certificate, with a request that a CA can sign.

    The key stays in a Secret. The certificate is renewed by itself. Nothing that exists is changed.

    \b
    Examples:
      letterlock certificate create --common-name mx.example.com --organization 'Example Ltd' --country DE
      letterlock certificate create wild --common-name '*.example.com' --level Cluster --algorithm ECDSA
      letterlock certificate create --common-name 'mx{ordinal}.example.com' --days 90 --dir ./mail
    """
    from letterlock_cli.judging import check_certificate
    from letterlock_cli.targets import manifest, target
    from letterlock_cli.yaml_edits import written

    names = [name.strip() for one in dns_name or () for name in one.split(",") if name.strip()]
    first = common_name or next(iter(names), None)
    if first is None:
        raise CommandError("a certificate needs a name: give --common-name, or --dns-name")
    subject = {
        "commonName": common_name,
        "organization": organization,
        "organizationalUnit": organizational_unit,
        "locality": locality,
        "state": state,
        "country": country.upper() if country else None,
    }
    spec: dict[str, Any] = {
        "gatewayRef": {"name": gateway} if gateway else None,
        "level": level,
        "subject": _given(subject),
        "dnsNames": names,
        "days": days,
        "privateKey": _given({"algorithm": algorithm, "size": key_size}),
        "signerName": signer,
    }
    made = manifest("Certificate", wanted or resource_name(first), _given(spec))
    there = target(Where(directory, None, namespace, kubeconfig, context))
    check_certificate(there, made)
    print(written(made).rstrip() if dry_run else there.create(made))


def resource_name(name: str) -> str:
    """The resource's name for a certificate's name: what the API server takes. Raises CommandError.

    `*.example.com` becomes `wildcard.example.com`, `mx{ordinal}.example.com` becomes `mx.example.com`.
    """
    import idna

    text = _PLACEHOLDER.sub("", name).lower().strip(".")
    text = re.sub(r"^\*\.", "wildcard.", text).replace("*", "")
    labels: list[str] = []
    for label in text.split("."):
        ascii_label = label
        if not label.isascii():
            try:
                ascii_label = idna.encode(label, uts46=True).decode()
            except idna.IDNAError:
                ascii_label = ""
        labels.append(re.sub(r"[^-a-z0-9]+", "-", ascii_label).strip("-"))
    made = ".".join(filter(None, labels))[:_LONGEST].strip("-.")
    if not made:
        raise CommandError(f"no name of a resource can be made of {name}: give one")
    return made


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, {}, [])}
