"""A gateway member: `run` starts its workers and its state, and ends them in order.

Called by `letterlock gateway` and by `python -m letterlock_gateway`. Whatever takes long to import comes
after the workers have been started: they import the same things meanwhile, and a member accepts mail the
sooner.
"""

import asyncio
import contextlib
import signal
import time
from typing import Final

from letterlock_gateway.options import Options
from letterlock_gateway.report.log import Log
from letterlock_gateway.workers import Heard, WorkerProcess

_FAILED: Final = 1


def run(options: Options) -> int:
    """Run the member until SIGTERM or SIGINT. Gives the exit status: 0, or 1 if it could not run at all."""
    return asyncio.run(_run(options, Log(options.log_format, bound={"member": options.member})))


async def _run(options: Options, say: Log) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    began = time.monotonic()
    try:
        options.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = worker_numbers(options)
    except OSError as error:
        say.error(f"The spool directory cannot be used: {error}")
        return _FAILED
    say.info(f"Member {options.member} starts with {len(numbers)} workers")
    heard: Heard = asyncio.Queue()
    workers = {number: WorkerProcess(number, options, say, heard) for number in numbers}
    for worker in workers.values():
        worker.start()
    await asyncio.sleep(0)  # each task creates its process in its first step

    from letterlock_gateway.member import Member

    member = Member(options, say, workers, heard, began)
    running = asyncio.create_task(member.run(), name="member")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    member.stopping = True
    await asyncio.gather(*(worker.stop() for worker in workers.values()))
    failed = running.done()
    running.cancel()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
    except OSError as error:
        say.error(f"Member {options.member} cannot run: {error}")
    say.info(f"Member {options.member} has stopped")
    return _FAILED if failed else 0


def worker_numbers(options: Options) -> list[int]:
    """One worker per processor, and one for every spool that was left when there were more of them."""
    left = {int(one.name) for one in options.spool.iterdir() if one.name.isdecimal() and one.is_dir()}
    return sorted(left | set(range(options.worker_count())))
