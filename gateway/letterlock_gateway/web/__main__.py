"""The process of the pages: `python -m letterlock_gateway.web FD`, started by `process` with its end of a channel.

It takes what the supervisor hands over, serves it, and says what it serves. It ends when the channel ends.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import uvloop

from letterlock_gateway import channel
from letterlock_gateway.nursery import end_with_parent
from letterlock_gateway.options import Options
from letterlock_gateway.report.log import Log
from letterlock_gateway.web.handed import Handed
from letterlock_gateway.web.serving import Serving
from letterlock_gateway.web.site import Site
from letterlock_gateway.web.sources import NoAnswer

# Mail comes first: on a machine without time to spare the pages wait.
_NICE: Final = 10
# Bytes of private memory. With 10,000 destinations it takes about 110 MiB; what goes beyond this is a mistake or an
# attack, and ends this process alone.
_MEMORY: Final = 768 * 1024 * 1024
_DESCRIPTORS: Final = 1024
_BIND_AGAIN: Final = 1.0  # seconds


def main() -> None:
    """Serve until the supervisor closes the channel."""
    end_with_parent("letterlock-http", signal.SIGKILL)
    # Ctrl-C goes to the whole foreground group; the supervisor alone takes it, and closes the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _be_modest()
    uvloop.run(_run(socket.socket(fileno=int(sys.argv[1]))))


def _be_modest() -> None:
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold the key
    most = min(_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # before any worker


async def _run(end: socket.socket) -> None:
    messages = await channel.Channel.open(end)
    start = await messages.receive()
    if start is None:
        return
    options = Options.from_json(start["options"])
    log = Log(options.log_format, bound={"member": options.member, "part": "https"})
    site = Site(options, log)
    serving = Serving(site, options, log)
    retrying: asyncio.Task[None] | None = None
    answering: set[asyncio.Task[None]] = set()
    while (message := await messages.receive()) is not None:
        if message["kind"] == "look":
            # As many at a time as the supervisor lets in.
            task = asyncio.create_task(_answer(site, message, messages), name="look")
            answering.add(task)
            task.add_done_callback(answering.discard)
            continue
        if retrying is not None:
            retrying.cancel()
        handed = await asyncio.to_thread(Handed.of, message)
        site.show(handed)
        retrying = asyncio.create_task(_serve(serving, handed, messages), name="serve")
    await serving.close()


async def _answer(site: Site, message: channel.Message, messages: channel.Channel) -> None:
    """Answer what the pages of another member ask."""
    text, problem = "", ""
    try:
        text = await site.look(message["question"])
    except NoAnswer as failure:
        problem = str(failure)
    answer = {"kind": "answer", "number": message["number"], "text": text, "problem": problem}
    await messages.send(channel.encode(answer))


async def _serve(serving: Serving, handed: Handed, messages: channel.Channel) -> None:
    """Serve by `handed`; where the address is not to be had, again and again until it is."""
    said = ""
    while True:
        try:
            await serving.use(handed)
            problem = ""
        except (OSError, ValueError) as error:
            problem = str(error)
        if not problem or problem != said:
            serves = {"kind": "serves", "served": handed.served, "problem": problem}
            await messages.send(channel.encode(serves))
        if not problem:
            return
        said = problem
        await asyncio.sleep(_BIND_AGAIN)


if __name__ == "__main__":
    main()
