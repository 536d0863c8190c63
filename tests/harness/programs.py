"""Finds the programs that tests run, and says in one sentence what is missing. The harness uses it."""

import os
import shutil
from pathlib import Path
from typing import Final

# Administrators' programs, which are not on everybody's PATH.
_ALSO: Final = ("/usr/sbin", "/sbin", "/usr/lib/postfix/sbin")


class MissingProgramError(RuntimeError):
    """A program that a test needs is not on this machine, or cannot be run by this user."""


def require(name: str) -> Path:
    """The program `name`. Raises MissingProgramError with what to do about it."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_ALSO)))
    if found is None:
        raise MissingProgramError(
            f"The program {name!r} is missing: run tests/harness/install.sh (on Debian, as root)."
        )
    return Path(found)


def require_root(for_what: str) -> None:
    """Raise MissingProgramError unless this process is root."""
    if os.geteuid() != 0:
        raise MissingProgramError(
            f"{for_what} needs root: run the tests as root, in a container if you like."
        )
