"""Delivery alone, in the test's event loop: a real spool, the real scheduler, and the test's own set."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from letterlock_api.snapshot import Destination, NextHop, RetrySchedule, Snapshot, SnapshotDelivery, TrustList
from letterlock_api.state import DestinationState
from letterlock_gateway.deliver import Delivery
from letterlock_gateway.deliver.terms import Timeouts
from letterlock_gateway.mount import assemble
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.outcomes import Outcomes
from letterlock_gateway.running import RunningSet
from letterlock_gateway.spool import NewMessage, NewRecipient, Spool
from tests.harness import mounts
from tests.harness.mounts import Files

# Of servers that say nothing. What times out is not tried again in a test, so a loaded machine must not exceed them.
TIMEOUTS = Timeouts(
    connect=5, greeting=2, hello=2, start_tls=2, handshake=2, mail=5, recipient=5, data=5, block=5, end=5
)
LETTER = b"From: a@sender.example\r\nSubject: secret subject\r\n\r\nsecret text\r\n.dot\r\n"


@dataclass
class Delivering:
    """A running delivery."""

    spool: Spool
    delivery: Delivery
    outcomes: Outcomes
    lines: list[dict[str, Any]]
    destinations: list[Destination] = field(default_factory=list[Destination])
    trusted: list[bytes] = field(default_factory=list[bytes])
    settings: SnapshotDelivery = field(
        default_factory=lambda: SnapshotDelivery(retry=RetrySchedule(initial=3600, max=3600))
    )
    files: Files = field(default_factory=Files)
    snapshot: Snapshot = field(default_factory=mounts.snapshot)
    """What was applied last."""
    sent: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    """Recipient domains of what was sent, by message."""

    def apply(self, *destinations: Destination) -> None:
        """Deliver by these destinations, and by the fields of this object."""
        if destinations:
            self.destinations = list(destinations)
        trust: dict[str, TrustList] = {}
        if self.trusted:
            trust["partners"] = self.files.trust(*self.trusted)
        wild = [] if any("*" in one.domains for one in self.destinations) else [mounts.destination()]
        taken = self.snapshot = mounts.snapshot(
            self.files,
            destinations=[*self.destinations, *wild],
            delivery=self.settings,
            trust=trust,
        )
        mounted = assemble(taken.encode(), self.files.content)
        self.delivery.apply(RunningSet.build(mounted, "default-0"))

    async def send(
        self,
        *to: str,
        sender: str = "a@sender.example",
        body: bytes = LETTER,
        notify: str = "",
        **fields: Any,
    ) -> int:
        """Store a message; gives its number."""
        recipients = tuple(NewRecipient(one, notify=notify) for one in to or ("b@mailbox.example",))
        mid = await self.spool.store(NewMessage(sender, recipients, body, icid=1, **fields))
        self.sent[mid] = [one.address.rpartition("@")[2].lower() for one in recipients]
        return mid

    def state(self, resource: str = "") -> DestinationState | None:
        """What is reported of a resource."""
        return next((one for one in self.outcomes.states() if one.resource == resource), None)

    def deferred(self) -> set[str]:
        """Domains of the recipients whose deferral is in the log."""
        mids = {line["mid"] for line in self.lines if line["message"].startswith("Delayed: ")}
        return {domain for mid in mids for domain in self.sent.get(mid, ())}

    def logged(self, words: str) -> bool:
        """Whether `words` stand in a line of the log."""
        return any(words in line["message"] for line in self.lines)


def route(port: int, host: str = "127.0.0.1", **changes: Any) -> NextHop:
    """A next hop."""
    return NextHop(host=host, port=port, **changes)


@contextlib.asynccontextmanager
async def delivering(
    directory: Path,
    *,
    idle: float = 0.5,
    clock: Callable[[], float] = time.time,
    timeouts: Timeouts = TIMEOUTS,
) -> AsyncGenerator[Delivering]:
    """A running delivery with a spool in `directory`; its `apply` starts it."""
    lines: list[dict[str, Any]] = []
    spool = await Spool.open(directory / "0", clock)
    outcomes = Outcomes()
    log = Log("json", write=lambda line: lines.append(json.loads(line)))
    delivery = Delivery(spool, log, outcomes, clock, timeouts=timeouts, idle=idle)
    running = asyncio.create_task(delivery.run())
    try:
        yield Delivering(spool, delivery, outcomes, lines)
    finally:
        await delivery.close()
        await running
        await spool.close()
        problems = [line["message"] for line in lines if line["level"] == "error"]
        assert not problems


async def until(observe: Callable[[], Any], what: str, *, seconds: float = 30) -> Any:
    """What `observe` gives, once that is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (seen := observe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}; last seen: {seen!r}")
        await asyncio.sleep(0.01)
    return seen
