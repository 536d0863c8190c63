"""CPU seconds of a program with all its processes, those that have ended included: what a message costs."""

import contextlib

import psutil


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid`, of all below it, and of those of them that have ended and were waited for.

    A process that ends between two looks is counted by its parent, which has waited for it.
    """
    first = psutil.Process(pid)
    total = 0.0
    for process in (first, *first.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
