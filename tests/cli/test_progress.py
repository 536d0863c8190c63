"""What commands say while they wait: on a terminal alone, on stderr alone, and gone when they are done."""

import contextlib
import os
import pty
import re
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
import yaml

from tests.cli.test_wizard import Terminal
from tests.cli.upped import COMMAND

_CLEAR = "\r\x1b[K"


@pytest.fixture
def silent() -> Generator[socket.socket]:
    """Somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def kubeconfig(tmp_path: Path, silent: socket.socket) -> Path:
    """Of a cluster that does not answer."""
    file = tmp_path / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [
            {"name": "x", "cluster": {"server": f"https://127.0.0.1:{silent.getsockname()[1]}"}},
        ],
        "users": [{"name": "x", "user": {"token": "x"}}],
    }
    file.write_text(yaml.safe_dump(content))
    return file


def hang_up(silent: socket.socket) -> None:
    """Answer nobody any more: not those who have come, nor those who come again."""
    silent.settimeout(0.5)
    came: list[socket.socket] = []
    try:
        while True:
            came.append(silent.accept()[0])
    except TimeoutError:
        silent.close()
        for one in came:
            one.close()


def keep_waiting(silent: socket.socket) -> None:
    """Have a command wait for longer than it takes until something would be said, and then fail."""
    silent.settimeout(60)
    first, _ = silent.accept()
    with first, contextlib.suppress(TimeoutError):
        first.settimeout(2.0)
        while first.recv(65536):  # its hello, and then nothing
            pass
    hang_up(silent)


def commands(silent: socket.socket, kubeconfig: Path) -> dict[str, tuple[list[str], str]]:
    on_cluster = ["--kubeconfig", str(kubeconfig), "--namespace", "mail"]
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    return {
        "status": (["status", *on_cluster], "reading from the cluster … "),
        "queue": (["queue", "retry", "--all", *on_cluster], "asking the members in their pods … "),
        "send": (
            ["send-test", address, "--to", "a@b.example", "--patience", "0"],
            f"sending to {address} … ",
        ),
    }


@pytest.mark.parametrize("which", ["status", "queue", "send"])
def test_a_terminal_shows_what_is_waited_for_until_it_is_over(
    silent: socket.socket, kubeconfig: Path, which: str
) -> None:
    arguments, words = commands(silent, kubeconfig)[which]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    terminal = Terminal(ours, process)
    try:
        terminal.until(f"{_CLEAR}{words}")
        terminal.until(f"{_CLEAR}{words}")
        hang_up(silent)
        assert terminal.rest() == 1
        # Each second once, and none twice; on a busy machine one may be passed over.
        seconds = [int(one) for one in re.findall(re.escape(words) + r"(\d+) s", terminal.seen.decode())]
        assert len(seconds) > 1
        assert seconds == sorted(set(seconds))
        # The line is wiped before anything else is said.
        last = terminal.seen.decode().rpartition(" s\r\x1b[K")[2]
        assert re.match(r"error: .+", last), terminal.seen.decode()
    finally:
        process.kill()
        said, _ = process.communicate(timeout=60)
        os.close(ours)
    assert said == b""


@pytest.mark.parametrize("change", ["piped", "dumb"])
def test_elsewhere_nothing_of_it_is_said(silent: socket.socket, kubeconfig: Path, change: str) -> None:
    arguments, _ = commands(silent, kubeconfig)["status"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if change == "piped" else theirs,
        env=os.environ | {"TERM": "dumb" if change == "dumb" else "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    keep_waiting(silent)
    if process.stderr is not None:
        said = process.communicate(timeout=60)[1].decode()
    else:
        terminal = Terminal(ours, process)
        terminal.rest()
        said = terminal.seen.decode()
    os.close(ours)
    assert said.startswith("error: ")
    assert "…" not in said
