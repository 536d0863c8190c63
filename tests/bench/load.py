"""The load generator: several processes, each with clients that open a new connection for every message."""

import asyncio
import ssl
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from tests.bench import wire


@dataclass(frozen=True)
class Load:
    """What to send."""

    address: str
    port: int
    messages: int
    clients: int
    size: int
    """Bytes a message."""
    recipient: str = "someone@bench.example"


@dataclass(frozen=True)
class Sent:
    """What came of it; times are of the machine's monotonic clock, the same in all processes."""

    started: float
    ended: float
    accepted: int
    errors: tuple[str, ...]


def run(load: Load, processes: int) -> Sent:
    """Send all of it with `processes` processes, and wait until each message has its 250 or has failed."""
    shares = [_share(load, index, processes) for index in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        # Each process is warm (imports done) before the clock of any of them starts.
        list(pool.map(_warm, range(processes)))
        parts = list(pool.map(_generate, shares))
    return Sent(
        started=min(part.started for part in parts),
        ended=max(part.ended for part in parts),
        accepted=sum(part.accepted for part in parts),
        errors=tuple(error for part in parts for error in part.errors),
    )


def _share(load: Load, index: int, processes: int) -> Load:
    def part(whole: int) -> int:
        return whole // processes + (1 if index < whole % processes else 0)

    return Load(load.address, load.port, part(load.messages), part(load.clients), load.size, load.recipient)


def _warm(_: int) -> float:
    wire.client_context()
    time.sleep(0.1)  # long enough that every process of the pool takes one
    return time.monotonic()


def _generate(load: Load) -> Sent:
    return asyncio.run(_clients(load))


async def _clients(load: Load) -> Sent:
    context = wire.client_context()
    envelope = f"MAIL FROM:<sender@client.example>\r\nRCPT TO:<{load.recipient}>\r\nDATA\r\n".encode()
    head = (
        b"From: <sender@client.example>\r\nTo: <" + load.recipient.encode() + b">\r\nSubject: bench\r\n\r\n"
    )
    line = b"x" * 70 + b"\r\n"
    data = head + line * max(1, (load.size - len(head)) // len(line)) + b".\r\n"
    remaining = iter(range(load.messages))
    accepted = 0
    errors: list[str] = []

    async def client() -> None:
        nonlocal accepted
        for _ in remaining:
            try:
                await wire.send_one(load.address, load.port, context, envelope, data)
                accepted += 1
            except (OSError, ssl.SSLError, EOFError, wire.UnexpectedReplyError) as error:
                errors.append(f"{type(error).__name__}: {error}")

    started = time.monotonic()
    await asyncio.gather(*(client() for _ in range(load.clients)))
    return Sent(started, time.monotonic(), accepted, tuple(errors))
