"""The command line: what commands there are, and how they fail. What they do is imported when they run.

Called by the `letterlock` script, which is also on the PATH as `kubectl-letterlock`, so that
`kubectl letterlock` works.
"""

import inspect
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from letterlock_cli import definition_commands, queue_commands, resource_commands
from letterlock_cli.check_command import check
from letterlock_cli.completion_command import VARIABLE, completion
from letterlock_cli.failures import CommandError
from letterlock_cli.init_command import init
from letterlock_cli.options import Context, Kubeconfig
from letterlock_cli.send_command import send_test
from letterlock_cli.track_command import track

LogFormat = Annotated[Literal["json", "text"], typer.Option(help="Form of the log on stdout.")]

app = typer.Typer(
    name="letterlock",
    help="""Certificates and TLS policy of mail gateways, and the gateway itself.

    \b
    Without a cluster:
      letterlock up examples/quickstart       serve a folder of manifests on this machine
      letterlock status --dir examples/quickstart
    On the current kubectl context and namespace:
      letterlock status
      letterlock certificate list -o yaml
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
resource_commands.register(app)
app.add_typer(queue_commands.commands, name="queue")
app.add_typer(definition_commands.commands, name="crds")
app.command()(init)
app.command()(completion)
app.command()(track)
app.command()(check)
app.command("send-test")(send_test)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"letterlock {version('letterlock')}")
        raise typer.Exit


@app.callback()
def letterlock(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See `app`."""


@app.command()
def up(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of manifests (*.yaml, *.yml, *.json).")
    ],
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where keys, mail and statuses live. Default: .letterlock/NAME-OF-DIR."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes per member. Default: one per core.")
    ] = None,
    notes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show the lines that are added to this file, too.")
    ] = None,
) -> None:
    r"""Serve a folder of manifests on this machine, without a cluster.

    Makes the decisions that the operator makes on a cluster, starts a gateway for each MailGateway (one
    member each, whatever spec.replicas says), shows every resource with its conditions, and takes edits of
    the files while it runs. A file with a mistake in it is named, and what it said before stays in force.
    Listeners bind exactly the addresses and ports that are written. Ctrl-C ends it; mail that is queued then
    is kept in the state directory.

    \b
    Examples:
      letterlock up examples/quickstart
      letterlock up ./mail --state /var/lib/letterlock
    """
    from letterlock_cli.up.command import run

    run(folder, state, workers, notes)


@app.command()
def operator(
    *,
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", help="Serve only this namespace (repeatable). Default: all."),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    image: Annotated[
        str, typer.Option(help="Image of members that name none. Default: $LETTERLOCK_IMAGE.")
    ] = "",
    image_pull_secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Secret in each gateway's namespace to pull the image with (repeatable)."
        ),
    ] = None,
    installation: Annotated[
        str,
        typer.Option(
            metavar="NAMESPACE/RELEASE",
            help="Who this operator is: of those that would serve a namespace, one does. Default: this host.",
        ),
    ] = "",
    lease: Annotated[
        str,
        typer.Option(
            metavar="NAMESPACE/NAME", help="Of several operators only the holder of this Lease acts."
        ),
    ] = "",
    health_port: Annotated[int | None, typer.Option(help="Answer /healthz on this port.")] = None,
    log_format: LogFormat = "json",
) -> None:
    r"""Run the operator: what its pod runs on a cluster.

    Inside a pod it uses the pod's own credentials, elsewhere the current kubectl context.

    \b
    Example:
      kubectl apply -f crds/ && letterlock operator --namespace mail
    """
    from letterlock_operator import main as program

    options = program.Options(
        namespaces=tuple(namespace or ()),
        kubeconfig=kubeconfig,
        context=context,
        image=image,
        image_pull_secrets=tuple(image_pull_secret or ()),
        installation=installation,
        lease=lease,
        health_port=health_port,
        log_format=log_format,
    )
    sys.exit(program.run(options))


@app.command()
def gateway(
    *,
    mount: Annotated[Path, typer.Option(metavar="DIR", help="Directory with snapshot.json and its files.")],
    spool: Annotated[Path, typer.Option(metavar="DIR", help="Directory for mail on its way.")],
    member: Annotated[str, typer.Option(metavar="NAME", help="Name of this member: <gateway>-<ordinal>.")],
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Bind listeners for all addresses to this one.")
    ] = None,
    low_port_offset: Annotated[
        int, typer.Option(min=0, max=60000, help="Added to listener ports below 1024 (10000 in pods).")
    ] = 0,
    state_address: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="Where the member's state is served. Default: everywhere."),
    ] = None,
    state_port: Annotated[int | None, typer.Option(help="Port of it. Default: 9443.")] = None,
    health_port: Annotated[
        int | None, typer.Option(help="Port of /healthz and /readyz. Default: 9080.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes. Default: one per core.")
    ] = None,
    log_format: LogFormat = "json",
    grace: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds for sessions in progress at the end. Default: 10."),
    ] = None,
    linger: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds that connections are still accepted at the end (10 in pods). Default: 0."
        ),
    ] = None,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End when this process ends.")] = None,
) -> None:
    r"""Run one gateway member: what the pods of a MailGateway run.

    It needs no access to a cluster: all it knows comes from the mounted directory, which it watches.

    \b
    Example:
      letterlock gateway --mount /etc/letterlock --spool /var/spool/letterlock --member default-0
    """
    from letterlock_cli.gateway_command import run

    run(
        parent,
        {
            "mount": mount,
            "spool": spool,
            "member": member,
            "address": address,
            "low_port_offset": low_port_offset,
            "state_address": state_address,
            "state_port": state_port,
            "health_port": health_port,
            "workers": workers,
            "log_format": log_format,
            "grace": grace,
            "linger": linger,
        },
    )


@app.command(hidden=True)
def member(
    request: Annotated[str, typer.Argument(help="A request, JSON.")],
    *,
    spool: Annotated[Path, typer.Option(metavar="DIR", help="The member's spool.")],
) -> None:
    """Answer a request about the member that runs here, as JSON: what `queue` and `track` run in pods."""
    import json

    from letterlock_cli.members import answer_here

    print(json.dumps(answer_here(spool, request), ensure_ascii=False))


def keep_lines(of: typer.Typer) -> None:
    """Let examples in docstrings stand line by line: raw docstrings write click's mark for that as two characters."""
    for command in of.registered_commands:
        if command.help is None and command.callback is not None:
            command.help = inspect.cleandoc(command.callback.__doc__ or "").replace("\\b\n", "\b\n")
    for group in of.registered_groups:
        if group.typer_instance is not None:
            keep_lines(group.typer_instance)


def _called() -> str:
    """The name that people call it by: kubectl runs its plugins as `kubectl-NAME`."""
    return "kubectl letterlock" if Path(sys.argv[0]).name.startswith("kubectl-") else "letterlock"


def main() -> None:
    """Run the command line. Exit status: 0, 1 for failures (one line on stderr), 2 for wrong usage."""
    keep_lines(app)
    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()  # a shell asks what fits, in the way of its own script
    try:
        app(prog_name=_called(), complete_var=VARIABLE)
    except CommandError as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # `letterlock … | head`: nobody reads on, which is no failure. Nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
