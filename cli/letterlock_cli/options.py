"""Options that many commands take: which resource, and where it is. Used by the modules with commands."""

from pathlib import Path
from typing import Annotated

import typer

from letterlock_cli.output import Format

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
Member = Annotated[
    str | None,
    typer.Option("--member", metavar="NAME", help="Which member's, where each has its own (Machine level)."),
]
Gateway = Annotated[
    str | None, typer.Option("--gateway", metavar="NAME", help="The MailGateway that it is for.")
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with the passphrase ('-': stdin). Default: it is asked for."),
]
Replace = Annotated[bool, typer.Option("--replace", help="Put it in place of what has this name already.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until it is in force, and show what is served then.")
]
Timeout = Annotated[int, typer.Option("--timeout", min=1, metavar="SECONDS", help="Wait for so long.")]
