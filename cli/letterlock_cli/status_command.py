"""`letterlock status`: the one screen to look at. Called by `resource_commands`, which registers it.

Gateway, members, listeners, destinations with trouble, certificates by expiry, queue, and first of all what needs
attention. What it says is gathered by `overview`; how old the queue is, members are asked.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from letterlock_cli import members
from letterlock_cli.columns import expires, few, text
from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, name
from letterlock_cli.options import (
    Context,
    Directory,
    Kubeconfig,
    Namespace,
    Output,
    StateDirectory,
)
from letterlock_cli.output import Format, condition, heading, print_objects, print_table, warn
from letterlock_cli.overview import Values, age, overview
from letterlock_cli.source import Where, resources, up_runs

# So many lines of a section; --all shows the rest.
_LINES: Final = 12


def status(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="No section cut, and every resource with its conditions.")
    ] = False,
    directory: Directory = None,
    state: StateDirectory = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    r"""Show how everything stands, on one screen: what needs attention first.

    Then gateways, members, listeners, domains that mail cannot be delivered to, certificates by expiry, and the
    queue. Programmed is True where every gateway member that is ready runs exactly what the resource says now.
    With -o json or yaml: a List of all resources, and the screen's sections in `overview`.

    \b
    Examples:
      letterlock status -n mail
      letterlock status --dir examples/quickstart
      letterlock status -o json | jq '.overview.attention'
    """
    where = Where(directory, state, namespace, kubeconfig, context)
    found = resources(where)
    served = up_runs(where) if directory is not None or state is not None else None
    seen = overview(found, _queues(where, found), served=served)
    if output is not Format.TABLE:
        print_objects(found, output, overview=seen)
    elif not found:
        print("no resources", file=sys.stderr)
    else:
        _show(seen, found, _LINES if not everything else sys.maxsize)
        if everything:
            _section(
                "All resources", ("KIND", "NAME", "ACCEPTED", "PROGRAMMED"), [_row(one) for one in found]
            )
    warn(found)


def _queues(where: Where, found: Sequence[Object]) -> dict[str, Values]:
    """What members say of their queues; what cannot be asked is missing, and said."""
    if not any(one["kind"] == "MailGateway" for one in found):
        return {}
    try:
        answers = members.ask(where, {"do": "waiting"})
    except CommandError as problem:
        print(f"warning: no queue can be looked into: {problem}", file=sys.stderr)
        return {}
    for one in answers:
        if one.problem:
            print(f"warning: the queue of {one.member} cannot be looked into: {one.problem}", file=sys.stderr)
    return {one.member: one.content for one in answers if not one.problem}


def _show(seen: Values, found: Sequence[Object], most: int) -> None:
    now = datetime.now(UTC)
    attention = [(f"{one['kind']}/{one['name']}", one["reason"], one["message"]) for one in seen["attention"]]
    if attention:
        _section("Needs attention", ("WHAT", "REASON", "MESSAGE"), attention, most)
    else:
        heading("Everything is as it shall be", first=True)
    _section(
        "Gateways",
        ("NAME", "HOSTNAME", "MEMBERS READY", "PROGRAMMED"),
        [
            (one["name"], text(one["hostname"]), text(one["ready"]), _programmed(one))
            for one in seen["gateways"]
        ],
        most,
    )
    _section(
        "Members",
        ("NAME", "GATEWAY", "UP TO DATE", "QUEUE", "OLDEST", "PROBLEMS"),
        [
            (
                one["name"],
                one["gateway"],
                "yes" if one["current"] else "no",
                text(one["queue"]),
                age(one["oldest"], now),
                "; ".join(one["problems"]) or "-",
            )
            for one in seen["members"]
        ],
        most,
    )
    _section(
        "Listeners",
        ("NAME", "TYPE", "INTERFACE", "PROTOCOL", "TLS", "CERTIFICATE", "LISTENING", "PROGRAMMED"),
        [
            (
                one["name"],
                one["type"],
                f"{one['address'] or '*'}:{one['port']}",
                one["protocol"],
                text(one["tls"]),
                text(one["certificate"]),
                f"{one['listening']}/{one['members']}",
                _programmed(one),
            )
            for one in seen["listeners"]
        ],
        most,
    )
    _section(
        "Destinations with trouble",
        ("DOMAIN", "REASON", "FOR", "RESOURCE"),
        [
            (one["domain"], one["reason"], age(one["since"], now), one["resource"])
            for one in seen["destinations"]
        ],
        most,
        nothing=f"none of {sum(one['kind'] == 'DestinationControl' for one in found)} destination controls",
    )
    _section(
        "Certificates, by expiry",
        ("NAME", "COMMON NAME", "EXPIRES", "USED BY", "READY"),
        [
            (
                one["name"] + (f" ({one['member']})" if one["member"] else ""),
                text(one["commonName"]),
                expires(one["notAfter"], now),
                few(one["usedBy"]),
                "True" if one["ready"] else f"False ({one['reason'] or 'Pending'})",
            )
            for one in seen["certificates"]
        ],
        most,
    )
    _queue(seen["queue"], now)


def _queue(queue: Values, now: datetime) -> None:
    heading("Queue")
    count = queue["recipients"]
    waits = f"{count} recipient{' waits' if count == 1 else 's wait'}" if count else "nothing waits"
    oldest = f", the oldest for {age(queue['oldest'], now)}" if queue["oldest"] else ""
    ranked = ", ".join(f"{one['domain']} ({one['recipients']})" for one in queue["domains"])
    unknown = "" if queue["complete"] else ", of some members it is not known"
    print(f"{waits}{oldest}{unknown}" + (f": {ranked}" if ranked else ""))


def _section(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    most: int = sys.maxsize,
    *,
    nothing: str = "none",
) -> None:
    heading(f"{title} ({len(rows)})" if len(rows) > most else title, first=title == "Needs attention")
    if not rows:
        print(nothing)
        return
    print_table(headings, rows[:most], nothing)
    if len(rows) > most:
        print(f"and {len(rows) - most} more: --all shows them")


def _programmed(one: Values) -> str:
    return "True" if one["programmed"] == "True" else f"{one['programmed']} ({one['reason']})"


def _row(item: Object) -> Sequence[str]:
    return item["kind"], name(item), condition(item, "Accepted"), condition(item, "Programmed")
