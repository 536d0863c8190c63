"""A spool's identity: made once, and kept beside its database. Called by `Spool.identity`, blocking for a moment."""

import contextlib
import os
import uuid
from pathlib import Path
from typing import Final

from letterlock_gateway.spool.failures import SpoolFailed
from letterlock_gateway.spool.schema import sync_directory

_FILE: Final = "identity"


def of(directory: Path) -> str:
    """The identity of the spool in `directory`. Raises SpoolFailed."""
    path = directory / _FILE
    try:
        with contextlib.suppress(FileNotFoundError):
            return path.read_text()
        made = str(uuid.uuid4())
        scratch = directory / f".{_FILE}"
        with scratch.open("w") as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        sync_directory(directory)
    except OSError as problem:
        raise SpoolFailed(f"{type(problem).__name__}: {problem}") from problem
    return made
