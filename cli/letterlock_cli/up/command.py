"""`letterlock up`: from the command's arguments to a running loop. Called by `main`."""

import asyncio
import os
from pathlib import Path

from letterlock_cli.failures import CommandError
from letterlock_cli.up.places import default_directory
from letterlock_cli.up.reconcile import Up
from letterlock_cli.up.screen import screen
from letterlock_cli.up.state import State


def run(folder: Path, state: Path | None, workers: int | None, notes: Path | None) -> None:
    """Serve `folder` until SIGINT or SIGTERM. Raises CommandError."""
    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder: give one with manifests, such as examples/quickstart")
    os.umask(0o077)  # keys and mail are for us alone, whoever of us writes them
    directory = (state or default_directory(folder)).absolute()
    with State(directory) as kept, screen() as shown:
        shown.note(f"folder {folder}, state {directory}")
        asyncio.run(Up(folder, kept, shown, workers, notes).run())
