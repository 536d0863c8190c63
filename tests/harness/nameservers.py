"""Real name servers of the test's own: nsd with the test's zones, and unbound in front of it, as a gateway's resolver.

Both run in the foreground from a directory of their own, on loopback ports, and are ended by their process ids.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import dns.exception
import dns.message
import dns.query
import dns.rcode
import psutil

from tests.harness import programs, waiting

_NSD: Final = """\
server:
  ip-address: 127.0.0.1@{port}
  do-ip6: no
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  zonelistfile: "{directory}/zone.list"
  xfrdir: "{directory}"
  logfile: "{directory}/nsd.log"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
"""
_UNBOUND: Final = """\
server:
  interface: 127.0.0.1
  port: {port}
  do-ip6: no
  num-threads: 1
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/unbound.pid"
  use-syslog: no
  logfile: ""
  do-not-query-localhost: no
  module-config: "iterator"
  local-zone: "127.in-addr.arpa." nodefault
  access-control: 127.0.0.0/8 allow
  infra-host-ttl: 1
  cache-max-negative-ttl: 1
{known}remote-control:
  control-enable: no
"""
_SOA: Final = "@ 60 IN SOA ns.example. admin.example. 1 3600 600 86400 1\n@ 60 IN NS ns.example.\n"


class NameServers:
    """Use as a context manager. `zones`: lines of each zone, by origin; names without a dot at the end are relative.

    `failing`: zones that unbound gets no answer about (SERVFAIL), but for the records in `local`.
    """

    def __init__(
        self, zones: Mapping[str, Sequence[str]], *, failing: Sequence[str] = (), local: Sequence[str] = ()
    ) -> None:
        self._zones = zones
        self._local = local
        self._failing = failing
        self._directory = Path(tempfile.mkdtemp(prefix="letterlock-dns-"))
        self._ports = [_free_port() for _ in range(2)]
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """Where unbound answers."""
        return f"127.0.0.1:{self._ports[1]}"

    def pause(self, program: Literal["nsd", "unbound"]) -> None:
        """From now on it takes questions, and answers none, until `resume`."""
        self._send(program, signal.SIGSTOP)

    def resume(self, program: Literal["nsd", "unbound"]) -> None:
        """It answers again."""
        self._send(program, signal.SIGCONT)

    def _send(self, program: Literal["nsd", "unbound"], number: signal.Signals) -> None:
        started = psutil.Process(self._processes[("nsd", "unbound").index(program)].pid)
        for one in (started, *started.children(recursive=True)):
            one.send_signal(number)

    def __enter__(self) -> Self:
        try:
            return self._start()
        except BaseException:
            self._remove()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for log in sorted(self._directory.glob("*.log")):
                print(f"--- {log.name} ---\n{log.read_text(errors='replace')[-5000:]}")
        self._remove()

    def _start(self) -> Self:
        authoritative, resolving = self._ports
        nsd = [_NSD.format(port=authoritative, directory=self._directory)]
        known = [f'  local-zone: "{zone}." typetransparent\n' for zone in self._failing]
        known += [f'  local-data: "{record}"\n' for record in self._local]
        unbound = [_UNBOUND.format(port=resolving, directory=self._directory, known="".join(known))]
        for number, (origin, lines) in enumerate(self._zones.items()):
            file = self._directory / f"{number}.zone"
            file.write_text(f"$ORIGIN {origin}.\n$TTL 60\n{_SOA}" + "".join(f"{line}\n" for line in lines))
            nsd.append(f'zone:\n  name: "{origin}"\n  zonefile: "{file}"\n')
            unbound.append(f'stub-zone:\n  name: "{origin}."\n  stub-addr: 127.0.0.1@{authoritative}\n')
        # nsd knows no such zones and refuses to answer; unbound makes SERVFAIL of that.
        unbound += [
            f'stub-zone:\n  name: "{zone}."\n  stub-addr: 127.0.0.1@{authoritative}\n'
            for zone in self._failing
        ]
        (self._directory / "nsd.conf").write_text("".join(nsd))
        (self._directory / "unbound.conf").write_text("".join(unbound))
        with (self._directory / "unbound.log").open("ab") as log:
            for program in ("nsd", "unbound"):
                command = [programs.require(program), "-d", "-c", self._directory / f"{program}.conf"]
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        origin = next(iter(self._zones))
        waiting.until(lambda: self._answers(origin), what="an answer of the name servers", every=0.05)
        return self

    def _answers(self, origin: str) -> bool:
        for process in self._processes:
            if process.poll() is not None:
                logs = "".join(log.read_text(errors="replace") for log in self._directory.glob("*.log"))
                raise RuntimeError(f"a name server has ended\n{logs}")
        query = dns.message.make_query(f"{origin}.", "SOA")
        try:
            found = dns.query.udp(query, "127.0.0.1", timeout=1, port=self._ports[1])
        except (dns.exception.DNSException, OSError):
            return False
        return found.rcode() == dns.rcode.NOERROR and bool(found.answer)

    def _remove(self) -> None:
        for program in ("nsd", "unbound")[: len(self._processes)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.resume(program)
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(timeout=30)
        self._processes.clear()
        shutil.rmtree(self._directory, ignore_errors=True)


def reverse(address: str, *names: str) -> list[str]:
    """Lines of the zone `127.in-addr.arpa` that say what an address (127.x.y.z) is called."""
    _, *rest = address.split(".")
    return [f"{'.'.join(reversed(rest))} IN PTR {name}." for name in names]


class SilentNameServer:
    """A port that takes questions and answers none. Use as a context manager."""

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def address(self) -> str:
        """Where it keeps silent, `host:port`."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"


def _free_port() -> int:
    """A port that is free for UDP and for TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port: int = udp.getsockname()[1]
            try:
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
