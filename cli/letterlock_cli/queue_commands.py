"""`letterlock queue`: mail that waits: look at it, try it now, delete it. Called by `main`, which registers it.

All four work while the members run, and retry and delete count in the running member at once.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from letterlock_cli import members
from letterlock_cli.columns import text
from letterlock_cli.failures import CommandError
from letterlock_cli.members import Answer
from letterlock_cli.messages import Message, found_in, only, print_message, report, since_when
from letterlock_cli.options import (
    Context,
    Directory,
    Kubeconfig,
    Namespace,
    Output,
    StateDirectory,
)
from letterlock_cli.output import Format, print_plain, print_table
from letterlock_cli.source import Where

Mids = Annotated[list[int] | None, typer.Argument(metavar="[MID]...", help="Numbers of messages.")]
Mid = Annotated[int, typer.Argument(metavar="MID", help="Number of the message.")]
Member = Annotated[str, typer.Option("--member", metavar="NAME", help="Only this member. Default: all.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="ADDR", help="Envelope sender: an address, @domain, or <>.")
]
To = Annotated[str | None, typer.Option("--to", metavar="ADDR", help="Recipient: an address, or @domain.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many messages, the latest.")]

commands = typer.Typer(help="Mail that waits: see it, try it now, delete it.", no_args_is_help=True)


@commands.command("list")
def list_queue(
    *,
    sender: From = None,
    to: To = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Accepted since: 2h, 3d, or 2026-01-31T12:00.")
    ] = None,
    limit: Limit = 100,
    member: Member = "",
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    r"""List messages that wait, latest first, with what keeps them.

    \b
    Examples:
      letterlock queue list -n mail
      letterlock queue list --to @example.com --since 2h --dir examples/quickstart
    """
    from letterlock_gateway.manage.lookup import finding
    from letterlock_gateway.spool.tracking import Query

    where = Where(directory, state, namespace, kubeconfig, context)
    query = Query(sender=sender, recipient=to, since=since_when(since), waiting=True, limit=limit)
    answers = members.ask(where, finding(query), member)
    found = found_in(answers)[:limit]
    if output is not Format.TABLE:
        print_plain(found, output)
    else:
        rows = [_row(message, one) for message in found for one in message["recipients"] if _waits(one)]
        headings = ("MEMBER", "MID", "SINCE", "SIZE", "FROM", "TO", "TRIES", "NEXT TRY", "REASON")
        print_table(headings, rows, "nothing waits")
        if len(found) == limit:
            print(f"the latest {limit} messages: --limit shows more", file=sys.stderr)
    report(answers)


@commands.command("show")
def show(
    mid: Mid,
    *,
    member: Member = "",
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    r"""Show one message: envelope, how it came, and of each recipient what became of it or keeps it.

    The text of messages is never shown.

    \b
    Example:
      letterlock queue show 7002 --dir examples/quickstart
    """
    from letterlock_gateway.manage.lookup import finding
    from letterlock_gateway.spool.tracking import Query

    where = Where(directory, state, namespace, kubeconfig, context)
    answers = members.ask(where, finding(Query(mids=(mid,))), member)
    found = found_in(answers)
    if not found:
        report(answers)
        raise CommandError(f"there is no message {mid}: `letterlock queue list` shows what waits")
    if output is not Format.TABLE:
        print_plain(found, output)
    else:
        for message in found:
            print_message(message)
    report(answers)


@commands.command("retry")
def retry(
    mids: Mids = None,
    *,
    to: To = None,
    everything: Annotated[bool, typer.Option("--all", help="All that waits.")] = False,
    member: Member = "",
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    r"""Try messages now instead of at their time.

    \b
    Examples:
      letterlock queue retry 7002 7003 -n mail
      letterlock queue retry --to @example.com
      letterlock queue retry --all --dir examples/quickstart
    """
    where = Where(directory, state, namespace, kubeconfig, context)
    _order(where, "retry", mids or (), to, member, output, everything=everything)


@commands.command("delete")
def delete(
    mids: Mids = None,
    *,
    to: To = None,
    everything: Annotated[bool, typer.Option("--all", help="All that waits; needs --yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete more than the named messages.")] = False,
    member: Member = "",
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    r"""Delete messages that wait. Nobody is told: neither sender nor recipient.

    What is being delivered at this moment is not deleted, and named. Deleted messages can still be tracked.

    \b
    Examples:
      letterlock queue delete 7002 -n mail
      letterlock queue delete 7002 --to someone@example.com
      letterlock queue delete --to @example.com --yes --dir examples/quickstart
    """
    if (everything or (to and not mids)) and not yes:
        raise CommandError("this may delete many messages: look with `letterlock queue list`, then add --yes")
    where = Where(directory, state, namespace, kubeconfig, context)
    if mids:
        _check_unambiguous(where, mids, member)
    _order(where, "delete", mids or (), to, member, output, everything=everything)


def _order(
    where: Where,
    do: str,
    mids: Sequence[int],
    to: str | None,
    member: str,
    output: Format,
    *,
    everything: bool,
) -> None:
    if not mids and not to and not everything:
        raise typer.BadParameter("name messages by their MID, or say --to ADDR or --all")
    if everything and (mids or to):
        raise typer.BadParameter("--all goes with neither MIDs nor --to")
    request = {"do": do, "mids": list(mids), "recipient": to or ""}
    answers = members.ask(where, request, member)
    done = _entries(answers, "done")
    busy = _entries(answers, "busy")
    if output is not Format.TABLE:
        print_plain(
            [{**one, "done": True} for one in done] + [{**one, "done": False} for one in busy], output
        )
    else:
        said = "is tried now" if do == "retry" else "deleted"
        for one in done:
            print(f"{one['member']} MID {one['mid']} to <{one['address']}> {said}")
    for one in busy:
        print(
            f"warning: {one['member']} MID {one['mid']} to <{one['address']}> is being delivered just now",
            file=sys.stderr,
        )
    problems = [f"{one.member}: {text}" for one in answers for text in one.content.get("problems", ())]
    if problems:
        report(answers)
        raise CommandError("; ".join(problems))
    report(answers)
    known = {one["mid"] for one in done + busy}
    missing = [mid for mid in mids if mid not in known]
    if missing:
        raise CommandError(
            f"nothing waits of message {', '.join(map(str, missing))}: see `letterlock queue list`"
        )
    if not done and not busy:
        print("nothing waits", file=sys.stderr)


def _entries(answers: Sequence[Answer], key: str) -> list[dict[str, Any]]:
    return [{"member": one.member, **entry} for one in answers for entry in one.content.get(key, ())]


def _check_unambiguous(where: Where, mids: Sequence[int], member: str) -> None:
    """Members number their messages by themselves: one number may be of several."""
    from letterlock_gateway.manage.lookup import finding
    from letterlock_gateway.spool.tracking import Query

    found = found_in(
        members.ask(where, finding(Query(mids=tuple(mids), waiting=True, limit=len(mids))), member)
    )
    for mid in mids:
        if len(on := [one["member"] for one in found if one["mid"] == mid]) > 1:
            raise CommandError(f"message {mid} waits on {' and '.join(on)}: say which with --member")


def _waits(recipient: Message) -> bool:
    return recipient["state"] in {"queued", "deferred"}


def _row(message: Message, one: Message) -> Sequence[str]:
    return (
        message["member"],
        str(message["mid"]),
        message["receivedAt"],
        str(message.get("size", 0)),
        f"<{message['sender']}>",
        f"<{one['address']}>",
        str(one.get("attempts", 0)),
        text(one.get("nextAttempt")) if one["state"] == "deferred" else "now",
        only(one.get("reply", "-"), 100),
    )
