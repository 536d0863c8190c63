"""A network for one process of the test run: its own loopback, an address that leads nowhere, and no name server.

Called by tests/conftest.py in each process of a run that is divided (tests/everything.sh), before any test.
"""

import contextlib
import ipaddress
import os
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Final

# kube-apiserver does not start without an address beside loopback and a default route.
_COMMANDS: Final = (
    "ip link set lo up",
    "ip link add d0 type bridge",
    "ip address add 10.99.0.1/24 dev d0",
    "ip link set d0 up",
    "ip route add default via 10.99.0.1",
)


def enter_own() -> None:
    """Leave the machine's network for a new one. For the main thread, from which all others come. Takes root."""
    os.unshare(os.CLONE_NEWNET)
    for command in (*_COMMANDS, *(f"ip route add unreachable {one}" for one in _name_servers())):
        subprocess.run(command.split(), check=True)


def is_own() -> bool:
    """Whether this process is in a network of its own, where nothing that is cut is anybody else's."""
    return Path("/proc/self/ns/net").stat().st_ino != Path("/proc/1/ns/net").stat().st_ino


@contextlib.contextmanager
def cut(address: str, port: int) -> Generator[None]:
    """Whatever is sent to this port is lost: nobody answers, and nobody says that there is no way.

    Raises RuntimeError in a network that is others' too.
    """
    if not is_own():
        raise RuntimeError(
            "the network is cut here: run this with tests/everything.sh, which gives it one of its own"
        )
    table = f"cut-{port}"
    rules = f"""table inet {table} {{
        chain lost {{
            type filter hook input priority 0
            ip daddr {address} tcp dport {port} drop
        }}
    }}"""
    subprocess.run(("nft", "--file", "-"), input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(("nft", "delete", "table", "inet", table), check=True)


def _name_servers() -> list[str]:
    """The machine's. Here there is no way to them: a question fails at once, and is never waited for."""
    lines = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    found = {words[1].partition("%")[0] for words in lines if words[:1] == ["nameserver"] and len(words) > 1}
    return sorted(one for one in found if not ipaddress.ip_address(one).is_loopback)
