"""`letterlock completion`: what makes shells complete it. Called by `main`, which registers it.

And `kubectl_complete-letterlock`, which kubectl runs for `kubectl letterlock <TAB>`.
"""

import contextlib
import io
import os
import shlex
import sys
from typing import Annotated, Literal

import typer

# Shells ask by it what fits; the same whatever name the command was called by.
VARIABLE = "_LETTERLOCK_COMPLETE"


# What kubectl reads at the end (Cobra's directives): nothing but these fits; or, with none, whatever the shell knows.
_THESE = ":4"
_FILES = ":0"


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Which shell.")],
) -> None:
    r"""Print a script that lets a shell complete commands, options and their values.

    \b
    Examples:
      source <(letterlock completion bash)
      letterlock completion bash > /etc/bash_completion.d/letterlock
      letterlock completion zsh > "${fpath[1]}/_letterlock"
      letterlock completion fish > ~/.config/fish/completions/letterlock.fish

    `kubectl letterlock` is completed by kubectl's own completion, which finds kubectl_complete-letterlock on the PATH.
    """
    from typer._completion_shared import get_completion_script

    print(get_completion_script(prog_name="letterlock", complete_var=VARIABLE, shell=shell))


def for_kubectl() -> None:
    """Print what fits the last of the words that come after `kubectl letterlock`, each with its help, as kubectl asks.

    The same answers as a fish shell gets, which are of the same form.
    """
    from letterlock_cli.main import main

    *before, last = sys.argv[1:] or [""]
    os.environ |= {
        VARIABLE: "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": f"{shlex.join(['letterlock', *before])} {shlex.quote(last) if last else ''}",
    }
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main()
    fits = [line for line in said.getvalue().splitlines() if line]
    print(*fits, _THESE if fits else _FILES, sep="\n")
