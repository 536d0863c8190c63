"""A network for one process of the test run: its own loopback, and an address that leads nowhere.

Called by tests/conftest.py in each process of a run that is divided (tests/everything.sh), before any test.
"""

import os
import subprocess
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
    for command in _COMMANDS:
        subprocess.run(command.split(), check=True)
