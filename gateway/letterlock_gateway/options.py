"""What a gateway member is started with.

Made from the command line by `letterlock gateway` and `python -m letterlock_gateway`, and handed by the
supervisor to each of its workers. Whatever can change while a member runs is in the snapshot, not here.
"""

import argparse
import ipaddress
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

# The same numbers as in letterlock_api.state, which is not imported here: it brings pydantic along (0.3 s),
# and the supervisor reads its options and starts the workers before it needs that. A test compares them.
STATE_PORT: Final = 9443
HEALTH_PORT: Final = 9080
_PRIVILEGED: Final = 1024
_CPU_LIMIT: Final = Path("/sys/fs/cgroup/cpu.max")

LogFormat = Literal["json", "text"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a gateway member is started with."""

    mount: Path
    """Directory that the snapshot and its files appear in."""
    spool: Path
    """Directory of this member's spools, one a worker; made if it is not there."""
    member: str
    """Name of this member: in the snapshot's machine-level certificates and in the state."""
    address: str = ""
    """Bind listeners of all addresses to this one instead; empty: to all, of both families."""
    low_port_offset: int = 0
    """Added to ports below 1024, which a pod may not bind."""
    state_address: str = ""
    """Address of the state and health endpoints; empty: all."""
    state_port: int = STATE_PORT
    health_port: int = HEALTH_PORT
    workers: int = 0
    """Worker processes; 0: one per processor that this process may use."""
    log_format: LogFormat = "json"
    grace: float = 10.0
    """Seconds that sessions in progress get at the end."""
    linger: float = 0.0
    """Seconds that connections are still accepted at the end: load balancers need some to hear of it."""

    def bind_port(self, port: int) -> int:
        """The port to bind for a listener's `port`."""
        return port + self.low_port_offset if port < _PRIVILEGED else port

    def bind_address(self, address: str) -> str:
        """The address to bind for a listener's `address`; empty: all addresses of both families."""
        return self.address if self.address and is_wildcard(address) else address

    def worker_count(self) -> int:
        """How many worker processes to run."""
        return self.workers or _processors()

    def to_json(self) -> dict[str, Any]:
        """All fields, for the channel to a worker."""
        return {**asdict(self), "mount": str(self.mount), "spool": str(self.spool)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The reverse of `to_json`."""
        paths: dict[str, Any] = {"mount": Path(values["mount"]), "spool": Path(values["spool"])}
        return cls(**(values | paths))


def is_wildcard(address: str) -> bool:
    """Whether a listener's address stands for all addresses."""
    try:
        return not address or ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False


def parse(arguments: Sequence[str] | None = None) -> Options:
    """The options in a command line (`sys.argv` unless given). Wrong usage ends the program (status 2)."""
    parser = argparse.ArgumentParser(prog="letterlock gateway", description="Run one gateway member.")
    parser.add_argument("--mount", type=Path, required=True, help="directory with the snapshot")
    parser.add_argument("--spool", type=Path, required=True, help="directory of this member's spools")
    parser.add_argument("--member", required=True, help="name of this member")
    parser.add_argument("--address", default="", help="bind listeners of all addresses to this one")
    parser.add_argument("--low-port-offset", type=int, default=0, help="added to ports below 1024")
    parser.add_argument("--state-address", default="", help="address of the state and health endpoints")
    parser.add_argument("--state-port", type=int, default=STATE_PORT)
    parser.add_argument("--health-port", type=int, default=HEALTH_PORT)
    parser.add_argument("--workers", type=int, default=0, help="worker processes; 0: one a processor")
    parser.add_argument("--log-format", choices=("json", "text"), default="json")
    parser.add_argument(
        "--grace", type=float, default=10.0, help="seconds for sessions in progress at the end"
    )
    parser.add_argument(
        "--linger", type=float, default=0.0, help="seconds that connections are still accepted at the end"
    )
    return Options(**vars(parser.parse_args(arguments)))


def _processors() -> int:
    """Processors that this process may use: its affinity, and the cgroup's limit (a pod's `limits.cpu`)."""
    allowed = os.process_cpu_count() or 1
    try:
        quota, period = _CPU_LIMIT.read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2 here, or `max`
        return allowed
