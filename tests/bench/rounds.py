"""One round: a load through one relay into the sink, and what it cost. Used by all measurements of messages."""

import time
from dataclasses import dataclass

from tests.bench import cost, load, relays
from tests.bench.load import Load, Sent
from tests.bench.relays import Subject
from tests.bench.sink import Sink


@dataclass(frozen=True)
class Scenario:
    """How much, and how."""

    messages: int
    clients: int = 20
    size: int = 4096
    per_connection: int = 1


@dataclass(frozen=True)
class Round:
    """One round of one relay."""

    received: float
    """Messages per second that got their 250."""
    relayed: float
    """Messages per second that reached the sink, from the first connection to the last message there; 0: none is to."""
    p99: float
    """Milliseconds from a client's connect to its 250, of 99 in 100."""
    ends: float
    """CPU milliseconds a message, of load generator and sink together."""
    spent: float
    """CPU milliseconds a message, of all processes of the relay. Steadier than rates where others use the machine."""


class IncompleteError(RuntimeError):
    """A round in which not every message arrived: its numbers would mean nothing."""


def run(scenario: Scenario, subject: Subject, sink: Sink) -> Round:
    """Send all of it, and wait until it has arrived. Raises IncompleteError."""
    sink.reset()
    sink_before = sink.taken().cpu
    before = cost.cpu_seconds(subject.pid)
    sent = _send(scenario, subject)
    deadline = time.monotonic() + 120
    while (taken := sink.taken()).count < scenario.messages:
        if time.monotonic() > deadline:
            raise IncompleteError(f"only {taken.count} of {scenario.messages} messages reached the sink")
        time.sleep(0.02)
    return _round(
        scenario,
        sent,
        spent=cost.cpu_seconds(subject.pid) - before,
        relayed=scenario.messages / (taken.last - sent.started),
        sink=taken.cpu - sink_before,
    )


def store(scenario: Scenario, subject: Subject) -> Round:
    """Send all of it to a relay whose next hop is down: all that it does is to receive and to store."""
    before = cost.cpu_seconds(subject.pid)
    sent = _send(scenario, subject)
    return _round(scenario, sent, spent=cost.cpu_seconds(subject.pid) - before)


def _round(scenario: Scenario, sent: Sent, *, spent: float, relayed: float = 0.0, sink: float = 0.0) -> Round:
    """`spent` and `sink`: CPU seconds."""
    return Round(
        received=sent.accepted / (sent.ended - sent.started),
        relayed=relayed,
        p99=1000 * sent.latency[2],
        ends=1000 * (sent.cpu + sink) / scenario.messages,
        spent=1000 * spent / scenario.messages,
    )


def _send(scenario: Scenario, subject: Subject) -> Sent:
    sent = load.run(
        Load(
            f"127.0.0.1:{subject.port}",
            scenario.messages,
            scenario.clients,
            scenario.size,
            scenario.per_connection,
            f"someone@{relays.DOMAIN}",
        )
    )
    if sent.errors:
        raise IncompleteError(f"{len(sent.errors)} sessions failed, the first: {sent.errors[0]}")
    return sent
