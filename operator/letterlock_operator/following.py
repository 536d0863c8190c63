"""Follows the members of every gateway: asks how they are, and hurries kubelets while a change is on its way.

Used by `reconcile`, which says whom to follow and is told when an answer differs from the one before.
A kubelet refreshes mounted volumes about once a minute, but at once when the pod's annotations change
(measured: 46 s against 0.13 s). The annotation can overtake the Secret on its way there: it is repeated.
Each member is asked for itself: one that lies still delays nothing that is said of the others, or done for them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from letterlock_api.base import GROUP
from letterlock_api.state import STATE_PORT, MemberState
from letterlock_operator import api, members
from letterlock_operator.world import Keep, Member

SNAPSHOT_ANNOTATION: Final = f"{GROUP}/snapshot"
_FAST: Final = 0.3  # seconds, while a change is on its way
_SLOW: Final = 5.0
# A round waits so long for answers. Members give theirs from memory; what comes later is told when it comes.
_GRACE: Final = 0.2
# A member that has not come round by then has a problem that hurrying does not solve.
_HURRY: Final = 120.0
# Seconds after the change at which pods are annotated.
_ANNOTATE_AT: Final = (0.0, 0.5, 1.0, 2.0, 4.0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """One pod of a gateway."""

    name: str
    uid: str
    address: str
    """Empty: it has none yet."""
    ready: bool
    leaving: bool = False
    """Whether it was told to end."""
    started: bool = False
    """Whether its container runs, or ran."""
    restarts: int = 0
    """How often its container was started again."""
    halted: str = ""
    """Why its container does not run, by its kubelet's word."""


@dataclass(frozen=True)
class Wanted:
    """What a gateway's members shall come to."""

    targets: tuple[Target, ...]
    snapshot: str
    """Hash of the snapshot that is mounted; empty: none yet."""
    identity: Keep | None


@dataclass
class _Followed:
    wanted: Wanted
    since: float
    """When the snapshot, or a pod, changed last (the loop's clock)."""
    changed: asyncio.Event
    answers: dict[str, tuple[MemberState | None, str]] = field(
        default_factory=dict[str, tuple[MemberState | None, str]]
    )
    """By pod uid: its word, or why there is none."""
    annotated: dict[str, int] = field(default_factory=dict[str, int])
    """By pod uid: how often it was annotated for this snapshot."""
    asking: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, asyncio.Task[None]])
    """By pod uid: questions without an answer yet."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while every pod with an address has been asked once."""
    task: asyncio.Task[None] | None = None

    def heard(self) -> None:
        """Bring `answered` up to date."""
        wanted = self.wanted
        if wanted.identity is None or all(
            target.uid in self.answers or not target.address for target in wanted.targets
        ):
            self.answered.set()
        else:
            self.answered.clear()


class Following:
    """All members of all gateways."""

    def __init__(self, client: api.API, changed: Callable[[str], None]) -> None:
        self._api = client
        self._changed = changed
        self._gateways: dict[tuple[str, str], _Followed] = {}

    async def members(self, namespace: str, wanted: Mapping[str, Wanted]) -> dict[str, tuple[Member, ...]]:
        """Follow exactly these gateways of the namespace; what their members have said so far.

        Waits until every pod with an address has been asked once: after a restart of ours nothing shall look
        worse than it is.
        """
        now = asyncio.get_running_loop().time()
        for key in [key for key in self._gateways if key[0] == namespace and key[1] not in wanted]:
            self._drop(key)
        for gateway, one in wanted.items():
            self._follow((namespace, gateway), one, now)
        waits = [self._gateways[namespace, gateway].answered.wait() for gateway in wanted]
        if waits:
            await asyncio.gather(*waits)
        return {
            gateway: tuple(_member(target, self._gateways[namespace, gateway]) for target in one.targets)
            for gateway, one in wanted.items()
        }

    def mounted(self, namespace: str, wanted: Mapping[str, Wanted]) -> None:
        """Snapshots may have been written just now: kubelets are hurried at once, before anything else is done."""
        now = asyncio.get_running_loop().time()
        for gateway, one in wanted.items():
            known = self._gateways.get((namespace, gateway))
            if known is not None and known.wanted.snapshot != one.snapshot:
                self._follow((namespace, gateway), one, now)

    def close(self) -> None:
        """Follow nobody any more."""
        for key in list(self._gateways):
            self._drop(key)

    def _follow(self, key: tuple[str, str], wanted: Wanted, now: float) -> None:
        followed = self._gateways.get(key)
        if followed is None:
            followed = _Followed(wanted, now, asyncio.Event())
            self._gateways[key] = followed
        elif followed.wanted != wanted:
            if followed.wanted.snapshot != wanted.snapshot:
                followed.annotated.clear()
            followed.wanted, followed.since = wanted, now
            followed.changed.set()
        pods = {target.uid for target in wanted.targets}
        followed.answers = {uid: answer for uid, answer in followed.answers.items() if uid in pods}
        followed.heard()
        if followed.task is None:
            followed.task = asyncio.create_task(self._run(key, followed), name=f"members of {'/'.join(key)}")

    def _drop(self, key: tuple[str, str]) -> None:
        followed = self._gateways.pop(key)
        followed.answered.set()
        for task in (followed.task, *followed.asking.values()):
            if task is not None:
                task.cancel()

    async def _run(self, key: tuple[str, str], followed: _Followed) -> None:
        loop = asyncio.get_running_loop()
        while True:
            followed.changed.clear()
            wanted = followed.wanted
            targets = [target for target in wanted.targets if target.address]
            # First the annotation, then the question: those that have answered before are known to be behind.
            untouched = [one for one in targets if one.uid not in followed.annotated]
            await self._hurry_all(key[0], untouched, followed)
            if wanted.identity is not None:
                await self._ask_all(key[0], targets, wanted.identity, followed)
            if followed.wanted != wanted:
                continue  # others are to be asked now
            behind = [target for target in targets if _is_behind(target, followed)]
            await self._hurry_all(key[0], behind, followed)
            age = loop.time() - followed.since
            wait = _FAST if behind and age < _HURRY else _SLOW
            try:
                async with asyncio.timeout(wait):
                    await followed.changed.wait()
            except TimeoutError:
                pass

    async def _ask_all(
        self, namespace: str, targets: Iterable[Target], identity: Keep, followed: _Followed
    ) -> None:
        """Ask each of them that is not being asked already, and wait for a moment."""
        asking = followed.asking
        for target in targets:
            if target.uid not in asking:
                asking[target.uid] = asyncio.create_task(
                    self._ask(namespace, target, identity, followed), name=f"state of {target.name}"
                )
        if asking:
            await asyncio.wait(asking.values(), timeout=_GRACE)

    async def _ask(self, namespace: str, target: Target, identity: Keep, followed: _Followed) -> None:
        answer = await _answer(target, identity)
        del followed.asking[target.uid]
        if all(one.uid != target.uid for one in followed.wanted.targets):
            return  # it has gone meanwhile
        before = followed.answers.get(target.uid)
        # The same word stays the same object: nobody has to compare thousands of digests again.
        if answer != before:
            followed.answers[target.uid] = answer
            self._changed(namespace)
        followed.heard()

    async def _hurry_all(self, namespace: str, targets: Iterable[Target], followed: _Followed) -> None:
        age = asyncio.get_running_loop().time() - followed.since
        # Of one that is still being asked nobody knows: an operator that has just started would touch every pod.
        behind = [one for one in targets if one.uid in followed.answers and _is_behind(one, followed)]
        await asyncio.gather(*(self._hurry(namespace, target, followed, age) for target in behind))

    async def _hurry(self, namespace: str, target: Target, followed: _Followed, age: float) -> None:
        """Touch the pod where it is time, so that its kubelet looks at the mounted objects now."""
        snapshot, done = followed.wanted.snapshot, followed.annotated.get(target.uid, 0)
        if not snapshot or done >= len(_ANNOTATE_AT) or age < _ANNOTATE_AT[done]:
            return
        followed.annotated[target.uid] = done + 1
        note = {"metadata": {"uid": target.uid, "annotations": {SNAPSHOT_ANNOTATION: f"{snapshot}-{done}"}}}
        try:
            await self._api.merge("Pod", namespace, target.name, note)
        except (api.NotFound, api.Conflict):
            pass  # the pod has gone, or a namesake has come: the watch will say
        except api.APIError as error:
            _log.warning("pod %s/%s could not be annotated: %s", namespace, target.name, error)


async def _answer(target: Target, identity: Keep) -> tuple[MemberState | None, str]:
    """The member's word, or why there is none."""
    try:
        state = await members.poll(target.address, STATE_PORT, identity)
    except members.MemberUnreachable as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - whatever one member answers, the others are asked too
        _log.exception("member %s could not be asked", target.name)
        return None, f"it could not be asked: {error}"
    if state.member != target.name:
        return None, f"{target.address} answers as {state.member}"
    return state, ""


def _is_behind(target: Target, followed: _Followed) -> bool:
    """Whether the member does not run the wanted snapshot yet.

    One that has refused it counts too: a kubelet that reads the Secrets before a change and the snapshot after
    it mounts a set with holes, and the next look heals that (measured: else it stays so for a minute).
    """
    state, _ = followed.answers.get(target.uid, (None, ""))
    if state is None:
        return True
    wanted = followed.wanted.snapshot
    return bool(wanted) and wanted != state.snapshot


def _member(target: Target, followed: _Followed) -> Member:
    state, problem = followed.answers.get(target.uid, (None, "it has no address yet"))
    if followed.wanted.identity is None:
        state, problem = None, "there is no identity to ask it with yet"
    return Member(
        target.name,
        target.ready,
        state,
        problem,
        target.address,
        target.leaving,
        started=target.started,
        restarts=target.restarts,
        halted=target.halted,
    )
