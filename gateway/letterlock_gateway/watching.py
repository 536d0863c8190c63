"""Says when a mount may have changed. Called by the supervisor, which then looks for itself.

The directory is watched, for the move of `..data`: a watch on a file in it is lost at the swap. A slow poll
stands behind it, since notifications do not come on every file system.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

# Seconds between looks without any notification. A kubelet takes up to a minute for a swap; this adds little.
_POLL: Final = 5.0
# Milliseconds that a burst of changes is gathered for: a swap is a dozen changes within a few milliseconds,
# a person's copy of files into a plain directory may last longer, and then the set is read again.
_GATHER: Final = 200
_STEP: Final = 10


async def changes(directory: Path, poll: float = _POLL) -> AsyncGenerator[None]:
    """Gives once at once, then after each change in `directory`, and every `poll` seconds."""
    changed = asyncio.Event()
    watch = asyncio.create_task(_watch(directory, changed, poll), name="mount watch")
    try:
        while True:
            yield
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(poll):
                    await changed.wait()
            changed.clear()
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def _watch(directory: Path, changed: asyncio.Event, poll: float) -> None:
    # Not before the first set has been read: it is needed only for later ones. Its types name trio's, which
    # is not here.
    from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

    loop = asyncio.get_running_loop()
    while True:
        # The directory is not there yet, or no more (FileNotFoundError), or the kernel is out of watches
        # (OSError).
        with contextlib.suppress(OSError):
            loop.call_soon(changed.set)  # what changed before this watch began; called once it waits
            async for _ in awatch(
                directory, watch_filter=None, recursive=False, debounce=_GATHER, step=_STEP
            ):
                changed.set()
        await asyncio.sleep(min(poll, 0.5))
