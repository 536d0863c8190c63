"""Where `letterlock up` keeps things. Apart from `state`, for commands that need no more and shall start quickly."""

from pathlib import Path
from typing import Final

_DEFAULT_PARENT: Final = ".letterlock"


def default_directory(folder: Path) -> Path:
    """Where the state of `folder` lives without --state: `.letterlock/NAME` in the working directory."""
    return Path(_DEFAULT_PARENT) / folder.resolve().name
