"""`letterlock completion`: what makes shells complete it. Called by `main`, which registers it."""

from typing import Annotated, Literal

import typer

# Shells ask by it what fits; the same whatever name the command was called by.
VARIABLE = "_LETTERLOCK_COMPLETE"


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
    """
    from typer._completion_shared import get_completion_script

    print(get_completion_script(prog_name="letterlock", complete_var=VARIABLE, shell=shell))
