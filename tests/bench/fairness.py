"""How much dead and slow destinations cost the others: throughput to a good domain, alone and among their mail.

`python -m tests.bench.fairness [MESSAGES]`: so many (5,000) wait for a domain whose host is dead, and as many for one
whose host takes connections and says nothing (a tarpit), while messages for a good domain are delivered, in clear text
to a server in the same process. Alone and among them in turn, so that whatever else the machine does is in both.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from letterlock_gateway.deliver.terms import Timeouts
from tests.gateway.test_fairness import send_many
from tests.harness.deliveries import Delivering, delivering, route, until
from tests.harness.faulty_smtp import FaultySMTP
from tests.harness.mounts import destination
from tests.harness.ports import free_port

ROUNDS = 3
GOOD = 2000


async def rate(made: Delivering, good: FaultySMTP) -> float:
    """Messages a second to the good domain: from the first that is stored to the last that is taken."""
    before = len(good.delivered)
    began = time.perf_counter()
    await send_many(made, GOOD, "good.example")
    await until(lambda: len(good.delivered) == before + GOOD, "the good domain's mail", seconds=600)
    return GOOD / (time.perf_counter() - began)


async def measure(messages: int) -> tuple[float, float, float, int]:
    """Messages a second alone, just when `messages` each for a dead and a tarpit domain come, and while they wait.

    And connections to the tarpit.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with (
            FaultySMTP(fault="no greeting") as tarpit,
            FaultySMTP() as good,
            delivering(Path(directory), timeouts=Timeouts(greeting=600)) as made,
        ):
            made.apply(
                destination("tarpit.example", resource="tarpit", tls_mode="No", routes=[route(tarpit.port)]),
                destination("dead.example", resource="dead", tls_mode="No", routes=[route(free_port())]),
                destination("good.example", resource="good", tls_mode="No", routes=[route(good.port)]),
            )
            alone = await rate(made, good)
            await send_many(made, messages, "tarpit.example", "dead.example")
            await until(lambda: len(tarpit.sessions) > 20, "connections to the tarpit", seconds=60)
            among = await rate(made, good)
            await until(lambda: delays(made) == messages, "the dead domain's deferrals", seconds=600)
            later = await rate(made, good)
            connections = len(tarpit.sessions)
            tarpit.hang_up()
    return alone, among, later, connections


def delays(made: Delivering) -> int:
    """Messages that were put off."""
    return sum(one["message"].startswith("Delayed: ") for one in made.lines)


def main() -> None:
    """Measure and print."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    rounds = [uvloop.run(measure(messages)) for _ in range(ROUNDS)]
    alone, among, later, connections = (statistics.median(one) for one in zip(*rounds, strict=True))
    print(f"to the good domain alone: {alone:.0f}/s")
    print(f"just when {messages} for a dead and {messages} for a tarpit domain have come: {among:.0f}/s")
    print(f"while these wait: {later:.0f}/s; connections to the tarpit: {connections:.0f}")
    for one in rounds:
        print("  round: " + ", ".join(f"{value:.0f}" for value in one))


if __name__ == "__main__":
    main()
