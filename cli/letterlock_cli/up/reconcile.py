"""The loop of `letterlock up`: observe folder and members, decide as the operator does, act on this machine.

Called by the command. Everything it needs to go on after a crash is in the state directory; what is
remembered here alone can be observed again.
"""

import asyncio
import contextlib
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import watchfiles

from letterlock_api.base import API_VERSION
from letterlock_api.kinds import KINDS
from letterlock_api.snapshot import SNAPSHOT_FILE
from letterlock_api.state import INTERNAL_CA_FILE, INTERNAL_CERTIFICATE_FILE
from letterlock_cli.up import mounts
from letterlock_cli.up.observe import Observer
from letterlock_cli.up.processes import Launch, MemberProcess
from letterlock_cli.up.screen import Screen
from letterlock_cli.up.state import State
from letterlock_operator import names, orders
from letterlock_operator.decide import NOTHING, Memo, decide_again
from letterlock_operator.decide.pems import Refused
from letterlock_operator.plan import (
    Ensure,
    Export,
    Import,
    IssueInternal,
    Mount,
    Plan,
    SecretOrder,
)
from letterlock_operator.world import Keep, Refusal, World

# Seconds between two looks at the members: short while something changes, and for a while after.
_BUSY: Final = 0.2
_QUIET: Final = 1.0
_BUSY_FOR: Final = 10.0
_DEBOUNCE: Final = 100  # milliseconds in which an editor finishes writing a file


@dataclass
class Up:
    """One run of `letterlock up`."""

    directory: Path
    state: State
    screen: Screen
    workers: int | None = None
    notes: Path | None = None
    """A file whose new lines are shown too."""
    _processes: dict[str, MemberProcess] = field(default_factory=dict[str, MemberProcess], init=False)
    _world: World | None = field(default=None, init=False)
    _refusals: dict[str, Refusal] = field(default_factory=dict[str, Refusal], init=False)
    _wake: datetime | None = field(default=None, init=False)
    _memo: Memo = field(default=NOTHING, init=False)
    _notes_read: int = field(default=0, init=False)

    async def run(self) -> None:
        """Until SIGINT or SIGTERM. Raises CommandError where the folder cannot be read."""
        stop, changed = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        observer = Observer(self.directory, self.state)
        observer.read_folder()
        watching = asyncio.create_task(self._watch(changed, stop))
        busy_until = loop.time() + _BUSY_FOR
        try:
            while not stop.is_set():
                if changed.is_set():
                    changed.clear()
                    observer.read_folder()
                    busy_until = loop.time() + _BUSY_FOR
                self._show_notes()
                if await self._turn(observer):
                    busy_until = loop.time() + _BUSY_FOR
                await _first_of((stop, changed), _BUSY if loop.time() < busy_until else _QUIET)
        finally:
            self.screen.note("stopping…")
            stop.set()
            await asyncio.gather(*(process.stop() for process in self._processes.values()))
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, changed: asyncio.Event, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(
                OSError, RuntimeError
            ):  # the folder is away for a moment (a checkout, say)
                async for _ in watchfiles.awatch(  # pyright: ignore[reportUnknownMemberType]
                    self.directory, stop_event=stop, recursive=False, debounce=_DEBOUNCE, step=_DEBOUNCE // 2
                ):
                    changed.set()
            await asyncio.sleep(_QUIET)
            changed.set()

    def _show_notes(self) -> None:
        if self.notes is None or not self.notes.is_file():
            return
        with self.notes.open("rb") as file:
            file.seek(self._notes_read)
            new = file.read()
        whole_lines = new[: new.rfind(b"\n") + 1]
        self._notes_read += len(whole_lines)
        for line in whole_lines.decode(errors="replace").splitlines():
            self.screen.note(line)

    async def _turn(self, observer: Observer) -> bool:
        """Observe, decide, act once. True if there was anything new."""
        world = await observer.world(self._processes, self._refusals)
        now = datetime.now(UTC)
        problems = [f"{one.file}: {one.problem}" for one in observer.contents.problems]
        if self.state.store_problems(problems):
            self.screen.problems(problems)
        if world == self._world and (self._wake is None or now < self._wake):
            return False
        plan, self._memo = decide_again(world, now, self._memo)
        await self._act(plan, observer, world, now)
        self._world, self._wake = world, plan.wake
        return True

    async def _act(self, plan: Plan, observer: Observer, world: World, now: datetime) -> None:
        for order in (*plan.internal, *plan.issues):
            await self._issue(order, world, now)
        for order in plan.retired:
            self.state.remove_secret(order.secret)
        for ensure in plan.ensures:
            observer.ensure(KINDS[ensure.kind].model_validate(_manifest(ensure)))
        for gateway, mount in plan.mounts.items():
            identity = world.secrets.get(names.internal_secret(gateway))
            if isinstance(identity, Keep):
                mounts.publish(self.state.mount(gateway), _mounted_files(mount, identity), now)
                self._keep_member(gateway)
        for text in plan.texts:
            self.state.store_text(text)
        for name in self._ownerless(world):
            self.state.forget_text(name)
        for gateway in self._processes.keys() - world.gateways.keys():
            await self._processes.pop(gateway).stop()
        observer.store_statuses(plan.statuses)
        self.screen.show(plan.statuses)

    def _ownerless(self, world: World) -> list[str]:
        """Exports of lists that have gone: on a cluster the garbage collector takes them away."""
        there = {f"CAList/{name}" for name in world.ca_lists}
        there |= {f"{one.kind}/{one.name}" for one in world.invalid}
        return [name for name, keep in self.state.texts().items() if keep.owner not in there]

    async def _issue(self, order: SecretOrder | IssueInternal, world: World, now: datetime) -> None:
        present = world.secrets.get(order.secret)
        before = present if isinstance(present, Keep) and present.ours else None
        try:
            data = await asyncio.to_thread(orders.data, order, before, now)
        except Refused as refused:
            if isinstance(order, Import):
                refusal = Refusal(refused.reason, refused.message, refused.until)
                self._refusals[order.attempt] = refusal
            return
        except ValueError as error:
            # One thing that cannot be made is no reason to let mail down. It is tried again at the next change.
            self.screen.warn(f"{orders.owner(order)}: Secret {order.secret} cannot be made: {error}")
            return
        inputs = order.inputs if isinstance(order, Export) else ""
        self.state.store_secret(order.secret, orders.owner(order), data, inputs)

    def _keep_member(self, gateway: str) -> None:
        if gateway in self._processes:
            return
        member = f"{gateway}-0"
        launch = Launch(
            member=member,
            mount=self.state.mount(gateway),
            spool=self.state.spool(member),
            log=self.state.log(member),
            workers=self.workers,
        )
        self._processes[gateway] = MemberProcess(launch, self.screen.warn)
        self._processes[gateway].start()


def _manifest(ensure: Ensure) -> dict[str, object]:
    return {
        "apiVersion": API_VERSION,
        "kind": ensure.kind,
        "metadata": {"name": ensure.name},
        "spec": dict(ensure.spec),
    }


def _mounted_files(mount: Mount, identity: Keep) -> dict[str, bytes]:
    """All files of a member's mount, by name."""
    return {
        SNAPSHOT_FILE: mount.encoded,
        **mount.tls_files,
        **mount.ca_files,
        INTERNAL_CERTIFICATE_FILE: identity.data[INTERNAL_CERTIFICATE_FILE],
        INTERNAL_CA_FILE: identity.data[INTERNAL_CA_FILE],
    }


async def _first_of(events: Iterable[asyncio.Event], seconds: float) -> None:
    """Return once one of the events is set, or after that time."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
