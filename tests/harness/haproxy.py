"""A real haproxy of the test's own: frontends on loopback that speak the PROXY protocol to one listener behind them."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.harness import ports, programs, waiting

_HEAD: Final = """\
global
    stats socket {directory}/admin mode 600
    log stderr format raw local0
defaults
    mode tcp
    log global
    timeout connect 20s
    timeout client 60s
    timeout server 60s
    timeout check 20s
"""
_FRONTEND: Final = """\
listen {name}
    bind {bind}:{port}
    source {source}
    server behind {behind} {options}
"""


class Haproxy:
    """Use as a context manager. Clients that connect to `port(name)` reach the listener with their own address."""

    def __init__(
        self,
        behind: int,
        options: Mapping[str, str],
        *,
        address: str = "127.0.0.1",
        source: str = "127.0.0.1",
        more: str = "",
    ) -> None:
        """`options`: of the server line, by frontend, such as `{"v2": "send-proxy-v2"}`.

        `behind`: port of the listener at `address`; `source`: the address that haproxy comes from; `more`: lines for
        each frontend.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="letterlock-haproxy-"))
        self._ports = {name: ports.free_port() for name in options}
        text = _HEAD.format(directory=self.directory)
        for name, line in options.items():
            for suffix, bind in (("", "127.0.0.1"), ("-six", "[::1]")):
                text += _FRONTEND.format(
                    name=name + suffix,
                    bind=bind,
                    port=self._ports[name],
                    source=source,
                    behind=f"{address}:{behind}",
                    options=line,
                )
                text += f"    {more}\n"
        (self.directory / "haproxy.cfg").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def port(self, name: str) -> int:
        """Where this frontend takes connections, on 127.0.0.1 and ::1."""
        return self._ports[name]

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.directory / "log").read_text(errors="replace")

    def wait_said(self, words: str) -> None:
        """Return once `words` stand in its log."""
        waiting.until(
            lambda: words in self.log, seconds=60, what=f"{words!r} in the log of haproxy", every=0.05
        )

    def states(self) -> dict[str, str]:
        """What each frontend's server is said to be: `UP`, `DOWN`, `no check`."""
        from socket import AF_UNIX, SOCK_STREAM, socket

        with socket(AF_UNIX, SOCK_STREAM) as admin:
            admin.connect(str(self.directory / "admin"))
            admin.sendall(b"show stat\n")
            text = b"".join(iter(lambda: admin.recv(65536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line and not line.startswith("#")]
        return {row[0]: row[17] for row in rows if row[1] == "behind"}

    def __enter__(self) -> Self:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [programs.require("haproxy"), "-db", "-f", self.directory / "haproxy.cfg"],
                stdout=log,
                stderr=log,
            )
        try:
            for port in self._ports.values():
                ports.wait_for_listener(port)
        except BaseException:
            print(self.log)
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
        if kind is not None:
            print(f"--- log of haproxy ---\n{self.log[-10000:]}")
        shutil.rmtree(self.directory, ignore_errors=True)
