"""Answers what commands ask about one member, beside it on the same machine or in the same pod.

Called by the command line: for the members of `letterlock up` directly, on a cluster by `letterlock member` in the pod.
"""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from letterlock_gateway.manage import control
from letterlock_gateway.spool.tracking import Query, find, waiting


def finding(query: Query) -> dict[str, Any]:
    """A request for messages."""
    return {"do": "find", "query": asdict(query)}


def answer(spool: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to `request` of the member whose spool directory this is.

    `request`: `finding`, `{"do": "waiting"}`, an order of `queue`, or `checking.request`.
    Raises SpoolUnreadable, control.NotRunning, and for `checking.request` mount.MountRefused.
    """
    if request["do"] == "check":
        # Here alone: it brings all of delivery along, which finding a message needs nothing of.
        from letterlock_gateway.manage import checking

        return checking.inside(spool, request)
    if request["do"] == "waiting":
        return waiting(spool)
    if request["do"] == "find":
        return {"messages": find(spool, Query(**request["query"]))}
    return asyncio.run(control.ask(spool, request))
