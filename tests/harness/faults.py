"""A machine that fails on purpose: full or broken disk, jumping clock, for one program and while it runs.

`faults.c` is preloaded into the program; what is on stands in a small file that both have mapped.
"""

import mmap
import os
import struct
import subprocess
import tempfile
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Final

from tests.harness import programs

_SOURCE: Final = Path(__file__).with_name("faults.c")
_LAYOUT: Final = struct.Struct("=6iq")  # struct faults


@dataclass(frozen=True)
class State:
    """What is on. The fields of `struct faults`, in its order."""

    full: int = 0
    sync_fails: int = 0
    write_fails: int = 0
    read_fails: int = 0
    of_thousand: int = 1000
    reserved: int = 0
    clock_seconds: int = 0


class Faults:
    """Switches for the programs that are started with `environment`."""

    def __init__(self, directory: Path, below: Path) -> None:
        """`directory`: for the library and the switches. `below`: whose files are on the bad disk."""
        library = directory / "faults.so"
        programs.require("cc")
        command = [
            "cc",
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-Werror",
            "-o",
            str(library),
            str(_SOURCE),
            "-ldl",
        ]
        subprocess.run(command, check=True, timeout=60)
        with tempfile.NamedTemporaryFile(dir=directory, prefix="faults-", delete=False) as file:
            file.write(_LAYOUT.pack(*astuple(State())))
            file.flush()
            self._mapped = mmap.mmap(file.fileno(), _LAYOUT.size)
        self._state = State()
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "LETTERLOCK_FAULTS": file.name,
            "LETTERLOCK_FAULTS_BELOW": str(below),
        }

    def set(self, **changes: int) -> None:
        """Switch on or off, at once: fields of `State`."""
        self._state = replace(self._state, **changes)
        self._mapped[:] = _LAYOUT.pack(*astuple(self._state))
