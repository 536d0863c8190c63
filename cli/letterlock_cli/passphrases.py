"""Where the passphrase of a PKCS#12 file comes from: a file, stdin, a variable, or whoever sits there.

Called by the commands that import and export. Never an argument: others could read it in the list of processes.
"""

import os
import sys
from pathlib import Path

import typer

from letterlock_cli.failures import CommandError


def for_export(file: Path | None) -> bytes:
    """The passphrase for a new file: from `file`, or asked for twice. Raises CommandError."""
    if file is None:
        _somebody()
        given = str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)).encode()
    else:
        given = _read(file)
    if not given:
        raise CommandError("the passphrase is empty: a key is never exported without one")
    return given


def given(file: Path | None, variable: str | None, *, ask: bool) -> bytes | None:
    """The passphrase that the options name; None: they name none. Raises CommandError."""
    if sum((file is not None, variable is not None, ask)) > 1:
        raise CommandError(
            "give the passphrase once: --passphrase-file, --passphrase-env or --passphrase-prompt"
        )
    if file is not None:
        return _read(file)
    if variable is not None:
        found = os.environ.get(variable)
        if found is None:
            raise CommandError(f"the environment has no variable {variable}")
        return found.rstrip("\r\n").encode()
    return asked() if ask else None


def asked() -> bytes:
    """The passphrase of whoever sits there. Raises CommandError where nobody does."""
    _somebody()
    return str(typer.prompt("Passphrase", hide_input=True, err=True)).encode()


def _somebody() -> None:
    if not sys.stdin.isatty():
        raise CommandError("nobody is there to ask for the passphrase: give --passphrase-file FILE")


def _read(file: Path) -> bytes:
    try:
        found = sys.stdin.buffer.readline() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from error
    return found.rstrip(b"\r\n")
