"""The `letterlock` command, run in the test's own process: quick, and with all that `main` does about errors."""

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

from letterlock_cli.main import main


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line of a command that failed. Raises AssertionError where it said something else."""
        assert self.status == 1, f"status {self.status}: {self.stdout}{self.stderr}"
        lines = [line for line in self.stderr.splitlines() if not line.startswith(("warning: ", "waiting: "))]
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")


def letterlock(*arguments: object) -> Done:
    """Run it. Nobody sits at stdin."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["letterlock", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            status: object = 0
        except SystemExit as end:
            status = end.code or 0
    return Done(int(str(status)), out.getvalue(), err.getvalue())


def well(*arguments: object) -> Done:
    """The same, of a command that must go well."""
    done = letterlock(*arguments)
    assert done.status == 0, done.stdout + done.stderr
    return done
