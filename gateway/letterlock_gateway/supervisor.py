"""A gateway member: `run` starts its workers and its state, and ends them in order.

Called by `letterlock gateway` and by `python -m letterlock_gateway`.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from letterlock_gateway import worker
from letterlock_gateway.counters import Counters
from letterlock_gateway.member import Member
from letterlock_gateway.nursery import Nursery
from letterlock_gateway.options import Options
from letterlock_gateway.report.log import Log
from letterlock_gateway.workers import Heard, WorkerProcess

_FAILED: Final = 1


def run(options: Options) -> int:
    """Run the member until SIGTERM or SIGINT. Gives the exit status: 0, or 1 if it could not run (any more).

    Forks, so it must be called before the process has a thread or an event loop.
    """
    say = Log(options.log_format, bound={"member": options.member})
    try:
        options.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = worker_numbers(options)
    except OSError as error:
        say.error(f"The spool directory cannot be used: {error}")
        return _FAILED
    counters = Counters.create(len(numbers))
    nursery = Nursery.open(partial(worker.run, counters))
    return asyncio.run(_run(options, numbers, counters, nursery, say))


async def _run(
    options: Options, numbers: Sequence[int], counters: Counters, nursery: Nursery, say: Log
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    began = time.monotonic()
    nursery.attach()
    say.info(f"Member {options.member} starts with {len(numbers)} workers")
    heard: Heard = asyncio.Queue()
    workers = {
        number: WorkerProcess(number, options, say, nursery, heard, counters.tally(table))
        for table, number in enumerate(numbers)
    }
    for one in workers.values():
        one.start()
    member = Member(options, say, workers, heard, began)
    running = asyncio.create_task(member.run(), name="member")
    lost = asyncio.create_task(nursery.lost.wait(), name="nursery")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({running, lost, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done() and not lost.done() and options.linger:
        # Still ready: a Service sends connections to the last of its pods that ends, as long as it says so.
        say.info(f"Member {options.member} ends: it accepts connections for {options.linger:g} s more")
        await asyncio.wait({running, lost}, timeout=options.linger, return_when=asyncio.FIRST_COMPLETED)
    member.stopping = True
    if lost.done():
        say.error("The process that starts workers has been killed: the member ends, to be started again")
    await asyncio.gather(*(one.stop() for one in workers.values()))
    failed = running.done() or lost.done()
    for task in (lost, stopping, running):
        task.cancel()
    *_, outcome = await asyncio.gather(lost, stopping, running, return_exceptions=True)
    nursery.close()
    if isinstance(outcome, OSError):
        say.error(f"Member {options.member} cannot run: {outcome}")
    elif isinstance(outcome, Exception):
        raise outcome
    say.info(f"Member {options.member} has stopped")
    return _FAILED if failed else 0


def worker_numbers(options: Options) -> list[int]:
    """One worker per processor, and one for every spool that was left when there were more of them."""
    left = {int(one.name) for one in options.spool.iterdir() if one.name.isdecimal() and one.is_dir()}
    return sorted(left | set(range(options.worker_count())))
