"""`letterlock certificate upload`: what a CA signed for our request (C3). Registered by `resource_commands`.

Everything is checked before anything is written: what does not fit changes nothing.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from letterlock_cli import certificate_commands, certificate_files, descriptions, settling
from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, items
from letterlock_cli.options import (
    Context,
    Directory,
    Kubeconfig,
    Member,
    Name,
    Namespace,
    StateDirectory,
    Timeout,
    Wait,
)
from letterlock_cli.output import print_fields, warn
from letterlock_cli.source import Where, resource

if TYPE_CHECKING:
    from letterlock_operator.decide.chains import Chain


def upload(
    wanted: Name,
    *,
    certificate: Annotated[
        Path,
        typer.Option(metavar="FILE", help="What the CA gave: PEM, DER or PKCS#7 ('-': stdin)."),
    ],
    intermediates: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Its intermediate certificates (repeatable), in any order."),
    ] = None,
    member: Member = None,
    wait: Wait = True,
    timeout: Timeout = 60,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Put the certificate that a CA signed for our request in place of the self-signed one.

    It is refused, and nothing changes, where it is for another key (KeyMismatch), has expired, or where an
    intermediate does not belong to it. White space, order and text between the blocks do not matter.

    \b
    Examples:
      letterlock certificate csr mx -n mail > mx.csr       for the CA
      letterlock certificate upload mx --certificate mx.crt --intermediates ca.pem -n mail
      letterlock certificate upload mx --certificate answer.p7b --member default-0 --dir ./mail
    """
    from letterlock_cli.judging import check_certificate
    from letterlock_cli.targets import check, spec_of, target

    where = Where(directory, state, namespace, kubeconfig, context)
    files = [certificate, *(intermediates or ())]
    pem = b"\n".join(_pem(file) for file in files)
    there = target(where)
    item = resource(where, "Certificate", wanted)
    now = datetime.now(UTC)
    whose, asked = certificate_commands.request(item, member)
    chain = _fitting(asked, pem, now)
    print_fields(descriptions.summary(chain.leaf, chain.intermediates, now))
    _warn(chain, asked, now)
    entry = _entry(whose, chain)

    def put(manifest: Object) -> None:
        spec = spec_of(manifest)
        signed = items(spec, "signed")
        members = [one.get("member") or "" for one in signed]
        if whose in members:
            signed[members.index(whose)] = dict(entry)
        else:
            signed.append(dict(entry))
        spec["signed"] = signed

    present = there.find("Certificate", wanted)
    if present is None:
        raise CommandError(f"there is no Certificate {wanted} to write to: see --dir")
    check(present)
    put(present)
    check_certificate(there, present)
    print(there.change("Certificate", wanted, put))
    if wait and chain.start <= now:
        settled = settling.settle(where, wanted, chain.fingerprint, whose, timeout)
        if settled is not None:
            print_fields(settling.served(settled))
            warn([settled])


def _pem(file: Path) -> bytes:
    content = certificate_files.content(file)
    if certificate_files.is_pkcs12(content):
        raise CommandError(
            f"InvalidPEM: {file} is a PKCS#12 file, which brings a key of its own: letterlock certificate import"
        )
    found = certificate_files.pem(content)
    if found is None:
        raise CommandError(f"InvalidPEM: {file} holds no certificate: give PEM, DER or PKCS#7")
    return found


def _fitting(request: str, pem: bytes, now: datetime) -> "Chain":
    """The chain for the request. Raises CommandError."""
    from letterlock_operator.decide import chains
    from letterlock_operator.decide.pems import Refused

    try:
        chain = chains.signed(request.encode(), pem)
    except Refused as refused:
        raise CommandError(f"{certificate_files.refusal(refused)}; nothing was changed") from refused
    if chain.end <= now:
        raise CommandError(
            f"Expired: the certificate expired on {chain.end:%Y-%m-%d}: have a new one signed; nothing was changed"
        )
    ended = chain.ended(now)
    if ended:
        raise CommandError(f"Expired: {ended}: give the one that the CA uses now; nothing was changed")
    if chain.self_signed:
        raise CommandError(
            "this is the self-signed certificate itself: have its request (certificate csr) signed by a CA;"
            " nothing was changed"
        )
    return chain


def _warn(chain: "Chain", request: str, now: datetime) -> None:
    from cryptography import x509

    asked = x509.load_pem_x509_csr(request.encode())
    try:
        names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wanted = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        wanted = []
    lost = [name for name in wanted if name.lower() not in chain.names]
    if lost:
        print(f"warning: the CA left out names that were asked for: {', '.join(lost)}", file=sys.stderr)
    if chain.start > now:
        moment = f"{chain.start:%Y-%m-%d %H:%M} UTC"
        print(f"warning: it is valid from {moment} on, and taken then", file=sys.stderr)


def _entry(member: str, chain: "Chain") -> Object:
    """What stands in spec.signed."""
    from cryptography.hazmat.primitives.serialization import Encoding

    leaf, *above = (one.public_bytes(Encoding.PEM).decode() for one in (chain.leaf, *chain.intermediates))
    return {
        **({"member": member} if member else {}),
        "certificate": leaf,
        **({"intermediates": "".join(above)} if above else {}),
    }
