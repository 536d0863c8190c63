"""The load generator: clients that send messages over STARTTLS, in a program of their own (`ends`)."""

import json
import subprocess
from dataclasses import dataclass

from tests.bench import ends


@dataclass(frozen=True)
class Load:
    """What to send."""

    address: str
    """Host and port."""
    messages: int
    clients: int
    size: int
    """Bytes a message."""
    per_connection: int = 1
    """Messages a connection; 0: sessions that end after the handshake."""
    recipient: str = "someone@bench.example"


@dataclass(frozen=True)
class Sent:
    """What came of it."""

    started: float
    """Unix seconds."""
    ended: float
    accepted: int
    errors: list[str]
    latency: list[float]
    """Seconds from the connect (later messages of a connection: from MAIL) to the 250: p50, p90, p99, max."""
    cpu: float
    """Seconds that the generator itself used."""


def run(load: Load) -> Sent:
    """Send all of it, and wait until each message has its 250 or has failed."""
    done = subprocess.run(
        [
            *(ends.program(), "load", "-address", load.address, "-recipient", load.recipient),
            *("-messages", str(load.messages), "-clients", str(load.clients), "-size", str(load.size)),
            *("-per-connection", str(load.per_connection)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return Sent(**json.loads(done.stdout))
