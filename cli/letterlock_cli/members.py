"""Asks members what only they know: those of `letterlock up` through their spools, those of a cluster in their pods.

Called by `queue_commands`, `track_command` and `check_command`. Every member is asked the same request
(`manage.lookup`), all at once.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import name, part
from letterlock_cli.progress import shown
from letterlock_cli.source import Where, client, state_directory

if TYPE_CHECKING:
    from letterlock_operator.api import API

# Where pods have their spool (operator's `objects`), and the container that has it.
_SPOOL: Final = "/var/spool/letterlock"
_CONTAINER: Final = "gateway"

# Answered from the spool, whether a member runs or not.
_WITHOUT_MEMBER: Final = frozenset({"find", "waiting"})

type Request = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What one member said."""

    member: str
    content: dict[str, Any]
    problem: str = ""
    """Why there is nothing; empty: there is."""


def ask(where: Where, request: Request, member: str = "") -> list[Answer]:
    """What each member (or only `member`) says, by name. Raises CommandError where there is none to ask."""
    if where.directory is not None or where.state is not None:
        with shown("asking the members"):
            found = _in_folder(state_directory(where), request, member)
    else:
        with shown("asking the members in their pods"):
            found = asyncio.run(_on_cluster(where, request, member))
    if not found:
        what = f"member {member}" if member else "member"
        raise CommandError(f"there is no {what} to ask: see `letterlock status`")
    return found


def answer_here(spool: Path, request: str) -> dict[str, Any]:
    """What the member whose spool this is says: what `letterlock member` prints in a pod. Raises CommandError."""
    from letterlock_gateway.manage import control, lookup
    from letterlock_gateway.mount import MountRefused
    from letterlock_gateway.spool.tracking import SpoolUnreadable

    try:
        return lookup.answer(spool, json.loads(request))
    except (SpoolUnreadable, control.NotRunning, MountRefused) as problem:
        raise CommandError(str(problem)) from problem
    except (ValueError, KeyError, TypeError) as problem:
        raise CommandError(f"not a request: {problem}") from problem


def _in_folder(state: Path, request: Request, member: str) -> list[Answer]:
    found: list[Answer] = []
    spools = state / "spool"
    for spool in sorted(spools.iterdir()) if spools.is_dir() else ():
        if member in ("", spool.name):
            try:
                found.append(Answer(spool.name, answer_here(spool, json.dumps(request))))
            except CommandError as problem:
                hint = "; does `letterlock up` run?" if request["do"] not in _WITHOUT_MEMBER else ""
                found.append(Answer(spool.name, {}, f"{problem}{hint}"))
    return found


async def _on_cluster(where: Where, request: Request, member: str) -> list[Answer]:
    from letterlock_operator import api
    from letterlock_operator.names import POD_SELECTOR

    async with client(where) as (cluster, namespace):
        try:
            pods, _ = await cluster.list("Pod", namespace, labelSelector=POD_SELECTOR)
        except api.APIError as error:
            raise CommandError(f"cannot list pods in namespace {namespace}: {error}") from error
        asked = [one for one in sorted(pods, key=name) if member in ("", name(one))]
        return list(await asyncio.gather(*(_in_pod(cluster, namespace, one, request) for one in asked)))


async def _in_pod(cluster: "API", namespace: str, pod: dict[str, Any], request: Request) -> Answer:
    from letterlock_operator import api

    if part(pod, "status").get("phase") != "Running":
        return Answer(name(pod), {}, f"its pod is {part(pod, 'status').get('phase') or 'not there yet'}")
    command = ["letterlock", "member", json.dumps(request), "--spool", _SPOOL]
    try:
        done = await cluster.execute(namespace, name(pod), _CONTAINER, command)
    except api.APIError as error:
        return Answer(name(pod), {}, f"{error} (it takes the right to create pods/exec)")
    if done.failed:
        text = done.stderr.decode(errors="replace").strip().removeprefix("error: ") or done.failed
        return Answer(name(pod), {}, text)
    try:
        return Answer(name(pod), cast("dict[str, Any]", json.loads(done.stdout)))
    except ValueError:
        return Answer(name(pod), {}, "its answer could not be understood: is it of another version?")
