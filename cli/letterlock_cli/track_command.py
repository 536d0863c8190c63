"""`letterlock track`: where is a message, and how did it go (D12). Called by `main`, which registers it."""

import sys
from typing import Annotated

import typer

from letterlock_cli import members
from letterlock_cli.failures import CommandError
from letterlock_cli.messages import found_in, only, over_which_tls, print_message, report, since_when
from letterlock_cli.options import (
    Context,
    Directory,
    Kubeconfig,
    Namespace,
    Output,
    StateDirectory,
)
from letterlock_cli.output import Format, print_plain, print_table
from letterlock_cli.queue_commands import From, Limit, Member, To
from letterlock_cli.source import Where

# So many are shown with every detail; more in a table with a line per recipient.
_IN_FULL = 3


def track(
    *,
    sender: From = None,
    to: To = None,
    message_id: Annotated[
        str | None, typer.Option("--message-id", metavar="ID", help="Message-ID, with or without <>.")
    ] = None,
    mid: Annotated[int | None, typer.Option("--mid", metavar="MID", help="Number in the log.")] = None,
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
    r"""Find messages on all members: over which TLS each came and went, to which host, with which reply; or why not.

    What is given must all be true of a message. Messages are remembered for spec.delivery.trackingRetention
    of the MailGateway after they were delivered, bounced or deleted.

    \b
    Examples:
      letterlock track --message-id 5f2a@client.example -n mail
      letterlock track --from someone@example.net --to @example.com --since 2h
      letterlock track --mid 7002 -o json --dir examples/quickstart
    """
    from letterlock_gateway.manage.lookup import finding
    from letterlock_gateway.spool.tracking import Query

    where = Where(directory, state, namespace, kubeconfig, context)
    query = Query(
        mids=() if mid is None else (mid,),
        sender=sender,
        recipient=to,
        message_id=message_id,
        since=since_when(since),
        limit=limit,
    )
    answers = members.ask(where, finding(query), member)
    found = found_in(answers)[:limit]
    if output is not Format.TABLE:
        print_plain(found, output)
    elif len(found) <= _IN_FULL:
        for message in found:
            print_message(message)
    else:
        rows = [
            (
                message["member"],
                str(message["mid"]),
                message["receivedAt"],
                f"<{message['sender']}>",
                f"<{one['address']}>",
                one["state"],
                one.get("host", "-"),
                over_which_tls(one),
                only(one.get("reply", "-"), 60),
            )
            for message in found
            for one in message["recipients"]
        ]
        headings = ("MEMBER", "MID", "RECEIVED", "FROM", "TO", "STATE", "HOST", "TLS", "REPLY OR REASON")
        print_table(headings, rows, "")
    report(answers)
    if not found:
        raise CommandError("no message fits; see `letterlock track --help` for what can be asked by")
    if len(found) == limit:
        print(f"the latest {limit} messages: --limit shows more", file=sys.stderr)
