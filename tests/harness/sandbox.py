"""Namespaces of a test's own (network, processes, mounts), and a way to go into the network and come back.

Used by `cluster`: whatever runs in there, containers among it, ends with the sandbox, and no address of it exists
outside.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness.programs import require_root

# The first process: the kernel gives it every orphan (containers' shims), so it has to collect them. The second bridge
# end is there so that the bridge counts as up.
_FIRST: Final = """
mount --make-rshared /
ip link set lo up
ip link add nodes type bridge
ip addr add {address}/24 dev nodes
ip link set nodes up
ip route add default via {address}
echo ready
while :; do sleep 3600 & wait; done
"""


@dataclass(frozen=True)
class Sandbox:
    """Namespaces that live until the `with` of `sandbox` is left."""

    first: int
    """Its first process, as it is numbered outside."""
    address: str
    """An address that everything in there reaches."""

    def entering(self) -> tuple[str, ...]:
        """What to put before a command so that it runs among the sandbox's processes and mounts."""
        return ("nsenter", f"--target={self.first}", "--pid", "--mount", "--net", "--")

    @contextlib.contextmanager
    def inside(self) -> Generator[None]:
        """This thread, and what it starts meanwhile, is in the sandbox's network; files and processes stay ours."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            there = os.open(f"/proc/{self.first}/ns/net", os.O_RDONLY)
            try:
                os.setns(there, os.CLONE_NEWNET)
            finally:
                os.close(there)
            try:
                yield
            finally:
                os.setns(before, os.CLONE_NEWNET)
        finally:
            os.close(before)


@contextlib.contextmanager
def sandbox(address: str) -> Generator[Sandbox]:
    """Fresh namespaces, with `address` on a bridge. All that runs in them is killed on leaving."""
    require_root("A network of the tests' own")
    guard = shutil.which("setpriv")
    # Should this process be killed, the kernel kills `unshare`, and with it everything in there.
    prefix = (guard, "--pdeathsig", "KILL", "--") if guard else ()
    unshare = ("unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child=KILL", "--")
    holder = subprocess.Popen(
        (*prefix, *unshare, "bash", "-c", _FIRST.format(address=address)),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != b"ready\n":
            raise RuntimeError("no namespaces could be made: see above")
        yield Sandbox(_only_child(holder.pid), address)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def _only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return int(children.read_text().split()[0])
