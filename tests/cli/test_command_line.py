"""The command line as a whole: completion in real shells, help with examples, exit statuses, reference pages."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from letterlock_cli import reference
from letterlock_cli.main import app, keep_lines
from tests.cli.commands import letterlock, well
from tests.cli.test_wizard import Terminal
from tests.harness import apiserver, programs

BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def commands(group: Any = None, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every command that people may call, by its words."""
    group = group or typer.main.get_command(app)
    below: dict[str, Any] = getattr(group, "commands", {})
    if not below:
        return {" ".join(path): group}
    found: dict[str, Any] = {}
    for name, one in below.items():
        if not one.hidden:
            found |= commands(one, (*path, name))
    return found


ALL = commands()
# The contract: what scripts call.
EXPECTED = """up operator gateway init status check track send-test completion
certificate list|certificate show|certificate create|certificate csr|certificate upload|certificate import
certificate export|calist list|calist show|calist import|calist export|listener list|destination list
queue list|queue show|queue retry|queue delete|crds apply"""


def test_every_command_of_the_contract_is_there() -> None:
    first, *rest = EXPECTED.splitlines()
    assert set(ALL) == {*first.split(), *(one for line in rest for one in line.split("|"))}


@pytest.mark.parametrize("command", sorted(ALL))
def test_help_has_an_example_that_is_a_call_of_it(command: str) -> None:
    said = well(*command.split(), "--help").stdout
    assert said.startswith(f"Usage: letterlock {command}")
    examples = said.partition("Example")[2]
    assert f"letterlock {command}" in examples, "an example that calls it"
    assert max(map(len, said.splitlines())) <= 120
    options = [one for one in ALL[command].params if one.name in {"namespace", "context", "kubeconfig"}]
    assert len(options) in {0, 2, 3}, "what chooses a cluster comes together"


def test_exit_statuses_are_those_of_the_page(tmp_path: Path) -> None:
    assert letterlock("status", "--help").status == 0
    assert letterlock("status", "--dir", tmp_path).error
    for wrong in (
        ["nonsense"],
        ["status", "--nonsense"],
        ["status", "-o", "xml"],
        ["check"],
        ["queue", "show", "x"],
    ):
        done = letterlock(*wrong)
        assert (done.status, done.stdout) == (2, ""), wrong
        assert "Error" in done.stderr or "Usage" in done.stderr


def test_the_pages_of_reference_are_not_stale() -> None:
    stale = [path.name for path, text in reference.pages().items() if path.read_text() != text]
    assert stale == [], "run `make crds`"
    keep_lines(app)  # once more changes nothing
    assert stale == [path.name for path, text in reference.pages().items() if path.read_text() != text]


def test_bash_completes(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(well("completion", "bash").stdout)
    words = f"""
        source {script}
        try() {{
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _letterlock_completion "$1"; echo "${{COMPREPLY[*]}}"
        }}
        complete -p letterlock
        try letterlock certi
        try letterlock certificate ex
        try letterlock status --na
        try letterlock completion ""
    """
    done = subprocess.run(
        [programs.require("bash"), "--norc", "-c", words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=ENVIRONMENT,
    )
    bound, *found = done.stdout.splitlines()
    assert bound.startswith("complete ")
    assert found == ["certificate", "export", "--namespace", "bash zsh fish"]


def test_fish_completes(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(well("completion", "fish").stdout)
    words = f'source {script}; complete -C "letterlock certificate ex"; complete -C "letterlock status --na"'
    done = subprocess.run(
        [programs.require("fish"), "--no-config", "-c", words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=ENVIRONMENT | {"HOME": str(tmp_path)},
    )
    found = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert found == ["export", "--namespace"]


def test_zsh_completes_at_a_terminal(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(well("completion", "zsh").stdout)
    zsh = programs.require("zsh")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [zsh, "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=ENVIRONMENT | {"HOME": str(tmp_path), "TERM": "dumb", "PS1": "ready> "},
    )
    os.close(theirs)
    person = Terminal(ours, process)
    try:
        os.write(
            ours,
            f"PS1='ready> '; autoload -U compinit; compinit -u; source {script}; echo lo'aded'\n".encode(),
        )
        person.until("loaded\r\n")
        person.until("ready> ")
        os.write(ours, b"letterlock certif\t")
        person.until("letterlock certificate")
    finally:
        os.close(ours)
        process.kill()
        process.wait(60)


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        (["certif"], ["certificate", ":4"]),
        (["certificate", "ex"], ["export", ":4"]),
        (["status", "--na"], ["--namespace", ":4"]),
        (["completion", ""], ["bash", "zsh", "fish", ":4"]),
        (["status", "--dir", ""], [":0"]),  # a folder, which the shell knows
        (["certificate", "show", "it's"], [":0"]),
    ],
    ids=" ".join,
)
def test_kubectl_completes(words: list[str], fits: list[str]) -> None:
    kubectl = apiserver.binaries() / "kubectl"
    done = subprocess.run(
        [kubectl, "__complete", "letterlock", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=ENVIRONMENT,
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == fits


def test_programs_are_on_the_path() -> None:
    for name in ("letterlock", "kubectl-letterlock", "kubectl_complete-letterlock"):
        assert shutil.which(name, path=str(BIN)), name
