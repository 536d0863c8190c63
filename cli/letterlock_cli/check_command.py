"""`letterlock check`: what would delivery to a domain do now, and why (D1-D9, D13). Called by `main`.

Exit status: 0 mail would be delivered under the configured mode, 1 it would not, 2 wrong usage.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from letterlock_cli import check_words, members, mounted_sets
from letterlock_cli.failures import CommandError
from letterlock_cli.output import Format, print_plain
from letterlock_cli.progress import shown
from letterlock_cli.queue_commands import Member
from letterlock_cli.resource_commands import (
    Context,
    Directory,
    Kubeconfig,
    Namespace,
    Output,
    StateDirectory,
)
from letterlock_cli.source import Where

if TYPE_CHECKING:
    from letterlock_api.snapshot import ResolvedTLSMode

Mode = Literal[
    "No", "Preferred", "Required", "PreferredVerify", "RequiredVerify", "RequiredVerifyHostedDomains"
]
_HERE: Final = "here"
_MAX_PORT: Final = 65535


def check(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="Recipient domain (or a whole address).")],
    *,
    route: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Go to this next hop instead of the configured ones.")
    ] = "",
    mode: Annotated[
        Mode | None, typer.Option(help="Judge by this mode instead of the configured one.")
    ] = None,
    inside: Annotated[
        bool, typer.Option("--inside", help="Connect from the members (in their pods), instead of from here.")
    ] = False,
    member: Member = "",
    gateway: Annotated[
        str, typer.Option(metavar="NAME", help="MailGateway. Default: the only one, or `default`.")
    ] = "",
    timeout: Annotated[
        float,
        typer.Option(min=1, max=600, metavar="SECONDS", help="For each step; delivery waits for minutes."),
    ] = 30.0,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    r"""Connect as delivery to a domain would, and explain every step: next hops, TLS, certificate, names, verdict.

    No mail is sent. Policy, CA lists and our certificate are those that the members have been given; the connection is
    made from here, or with --inside (or --member) from the members. The last table says what each TLS mode would do.
    Exit status: 0 if mail would be delivered under the configured mode, 1 if not.

    \b
    Examples:
      letterlock check example.com -n mail
      letterlock check example.com --mode RequiredVerify --inside
      letterlock check example.com --route mx.example.net:25 --dir examples/quickstart
    """
    from letterlock_gateway.manage import checking

    asked = checking.request(_domain(domain), mode=_mode(mode), route=_route(route), seconds=timeout)
    where = Where(directory, state, namespace, kubeconfig, context)
    found = _from_members(where, asked, member) if inside or member else [_from_here(where, asked, gateway)]
    if output is not Format.TABLE:
        print_plain(found, output)
    else:
        for one in found:
            check_words.show(one)
    if not found or not all(one["delivered"] for one in found):
        raise typer.Exit(1)


def _from_here(where: Where, asked: dict[str, Any], gateway: str) -> dict[str, Any]:
    from letterlock_gateway.manage import checking
    from letterlock_gateway.mount import MountRefused

    taken = mounted_sets.take(where, gateway, "", asked["domain"])
    try:
        with shown(f"connecting as delivery to {asked['domain']} would"):
            found = checking.check(
                taken.snapshot, taken.files, mounted_sets.first_member(taken.gateway), asked
            )
    except MountRefused as problem:
        raise CommandError(f"the set of MailGateway {taken.gateway} cannot be used: {problem}") from problem
    return {"from": _HERE, **found}


def _from_members(where: Where, asked: dict[str, Any], member: str) -> list[dict[str, Any]]:
    answers = members.ask(where, asked, member)
    silent = [one for one in answers if one.problem]
    for one in silent:
        print(f"warning: {one.member}: {one.problem}", file=sys.stderr)
    if silent:
        raise CommandError(f"{silent[0].member} could not be asked: nothing is known of what it would do")
    return [{"from": one.member, **one.content} for one in answers]


def _domain(text: str) -> str:
    """The domain in lower case and A-labels, or an address literal. Raises typer.BadParameter."""
    from letterlock_gateway.manage import checking

    try:
        return checking.domain_in(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="DOMAIN") from None


def _mode(mode: Mode | None) -> "ResolvedTLSMode | None":
    return mode


def _route(text: str) -> str:
    if not text:
        return ""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise typer.BadParameter(f"{text!r} is not HOST:PORT", param_hint="--route")
    if ":" in host and not host.startswith("["):
        raise typer.BadParameter("write an IPv6 address as [ADDRESS]:PORT", param_hint="--route")
    return text
