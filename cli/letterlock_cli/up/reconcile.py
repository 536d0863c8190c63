"""The loop of `letterlock up`: observe folder and members, decide as the operator does, act on this machine.

Called by the command. Everything it needs to go on after a crash is in the state directory; what is
remembered here alone can be observed again.
"""

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import certifi
import watchfiles

from letterlock_api.base import API_VERSION
from letterlock_api.kinds import KINDS, AnyResource
from letterlock_api.resource import Metadata
from letterlock_api.snapshot import SNAPSHOT_FILE
from letterlock_api.state import INTERNAL_CA_FILE, INTERNAL_CERTIFICATE_FILE, MemberState
from letterlock_cli.up import folder, mounts
from letterlock_cli.up.processes import LOOPBACK, Launch, MemberProcess
from letterlock_cli.up.screen import Screen
from letterlock_cli.up.state import State, spec_as_written
from letterlock_operator import issuing, members, names
from letterlock_operator.decide import decide
from letterlock_operator.plan import AnyStatus, Issue, IssueInternal, Mount, Plan
from letterlock_operator.world import Keep, Member, World

NAMESPACE: Final = "default"
# Seconds between two looks at the members: short while something changes, and for a while after.
_BUSY: Final = 0.2
_QUIET: Final = 1.0
_BUSY_FOR: Final = 10.0


@dataclass
class Up:
    """One run of `letterlock up`."""

    directory: Path
    state: State
    screen: Screen
    workers: int | None = None
    notes: Path | None = None
    """A file whose new lines are shown too."""
    _notes_read: int = field(default=0, init=False)
    _contents: folder.Contents = field(default_factory=folder.Contents, init=False)
    _resources: dict[tuple[str, str], AnyResource] = field(
        default_factory=dict[tuple[str, str], AnyResource], init=False
    )
    """Of the folder, with the generations and statuses that we keep."""
    _ensured: dict[tuple[str, str], AnyResource] = field(
        default_factory=dict[tuple[str, str], AnyResource], init=False
    )
    """What decisions asked for beside the folder: the system CA list."""
    _processes: dict[str, MemberProcess] = field(default_factory=dict[str, MemberProcess], init=False)
    _events: set[tuple[str, str, str, str]] = field(
        default_factory=set[tuple[str, str, str, str]], init=False
    )
    _world: World | None = field(default=None, init=False)
    _wake: datetime | None = field(default=None, init=False)
    _roots: bytes = field(default_factory=lambda: Path(certifi.where()).read_bytes(), init=False)

    async def run(self) -> None:
        """Until SIGINT or SIGTERM. Raises CommandError where the folder cannot be read at the start."""
        stop, changed = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        self._observe_folder()
        watching = asyncio.create_task(self._watch(changed, stop))
        busy_until = loop.time() + _BUSY_FOR
        try:
            while not stop.is_set():
                if changed.is_set():
                    changed.clear()
                    self._observe_folder()
                self._show_notes()
                if await self._turn():
                    busy_until = loop.time() + _BUSY_FOR
                await _first_of(stop, changed, timeout=_BUSY if loop.time() < busy_until else _QUIET)
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
                    self.directory, stop_event=stop, recursive=False, debounce=100, step=50
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

    def _observe_folder(self) -> None:
        self._contents = folder.read(self.directory, self.state.manifests)
        stored = self.state.resources()
        self._resources = {
            key: _remembered(resource, stored.get(key)) for key, resource in self._contents.resources.items()
        }
        for key in self._ensured.keys() & self._resources.keys():
            del self._ensured[key]  # the folder has one of its own now

    async def _turn(self) -> bool:
        """Observe, decide, act once. True if anything was done or is still on its way."""
        world = await self._observe()
        now = datetime.now(UTC)
        if world == self._world and (self._wake is None or now < self._wake):
            return False
        self._world = world
        plan = decide(world, now)
        self._wake = plan.wake
        await self._act(plan, world, now)
        return True

    async def _observe(self) -> World:
        keeps = self.state.keeps()
        resources = {**self._ensured, **self._resources}

        def of(kind: str) -> dict[str, Any]:
            return {name: resource for (k, name), resource in resources.items() if k == kind}

        gateways = of("MailGateway")
        seen = await asyncio.gather(*(self._member(gateway, keeps) for gateway in gateways))
        return World(
            namespace=NAMESPACE,
            gateways=gateways,
            certificates=of("Certificate"),
            listeners=of("Listener"),
            destinations=of("DestinationControl"),
            ca_lists=of("CAList"),
            invalid=tuple(self._contents.invalid),
            secrets={**keeps, **self._contents.secrets},
            config_maps={**self._contents.config_maps},
            members=dict(zip(gateways, seen, strict=True)),
            system_roots=self._roots,
        )

    async def _member(self, gateway: str, keeps: Mapping[str, Keep]) -> tuple[Member, ...]:
        process = self._processes.get(gateway)
        identity = keeps.get(names.internal_secret(gateway))
        if process is None or identity is None:
            return ()
        name = process.launch.member
        if not process.running:
            return (Member(name, ready=False, state=None, problem="its process does not run"),)
        state: MemberState | None = None
        problem = ""
        try:
            state = await members.poll(LOOPBACK, process.state_port, identity)
        except members.MemberUnreachable as error:
            problem = str(error)
        return (Member(name, ready=True, state=state, problem=problem),)

    async def _act(self, plan: Plan, world: World, now: datetime) -> None:
        for order in (*plan.internal, *plan.issues):
            await self._issue(order, world, now)
        for ensure in plan.ensures:
            manifest = {
                "apiVersion": API_VERSION,
                "kind": ensure.kind,
                "metadata": {"name": ensure.name},
                "spec": dict(ensure.spec),
            }
            resource = KINDS[ensure.kind].model_validate(manifest)
            key = (ensure.kind, ensure.name)
            self._ensured[key] = _remembered(resource, self.state.resources().get(key))
        for gateway, mount in plan.mounts.items():
            identity = world.secrets.get(names.internal_secret(gateway))
            if isinstance(identity, Keep):
                mounts.publish(self.state.mount(gateway), mounted_files(mount, identity), now)
                self._keep_member(gateway)
        for gateway in self._processes.keys() - world.gateways.keys():
            await self._processes.pop(gateway).stop()
        self._write_statuses(plan.statuses)
        for kind, name in self.state.resources().keys() - self._resources.keys() - self._ensured.keys():
            self.state.forget_status(kind, name)
        for event in plan.events:
            key = (event.kind, event.name, event.reason, event.message)
            if event.type == "Warning" and key not in self._events:
                self.screen.warn(f"warning: {event.kind}/{event.name} {event.reason}: {event.message}")
            self._events.add(key)
        self.screen.show(plan.statuses, [f"{p.file}: {p.problem}" for p in self._contents.problems])

    async def _issue(self, order: Issue | IssueInternal, world: World, now: datetime) -> None:
        present = world.secrets.get(order.secret)
        before = present if isinstance(present, Keep) and present.ours else None
        if isinstance(order, IssueInternal):
            owner = f"MailGateway/{order.gateway}"
            data = await asyncio.to_thread(issuing.issue_internal, order.gateway, now)
        else:
            owner = order.owner
            data = await asyncio.to_thread(issuing.issue, order, before, now)
        self.state.store_secret(order.secret, owner, data)

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

    def _write_statuses(self, statuses: Mapping[tuple[str, str], AnyStatus]) -> None:
        for key, status in statuses.items():
            for known in (self._resources, self._ensured):
                resource = known.get(key)
                if resource is not None and resource.status != status:
                    self.state.store_status(resource, status)
                    known[key] = resource.model_copy(update={"status": status})


def mounted_files(mount: Mount, identity: Keep) -> dict[str, bytes]:
    """All files of a member's mount, by name."""
    return {
        SNAPSHOT_FILE: mount.snapshot.encode(),
        **mount.tls_files,
        **mount.ca_files,
        INTERNAL_CERTIFICATE_FILE: identity.data[INTERNAL_CERTIFICATE_FILE],
        INTERNAL_CA_FILE: identity.data[INTERNAL_CA_FILE],
    }


def _remembered(resource: AnyResource, stored: AnyResource | None) -> AnyResource:
    """`resource` with what an API server keeps: its status, and a generation that grows with the spec."""
    generation, status = 1, resource.status
    if stored is not None:
        generation = stored.metadata.generation or 1
        status = stored.status
        if spec_as_written(stored) != spec_as_written(resource):
            generation += 1
    metadata: Metadata = resource.metadata.model_copy(
        update={"generation": generation, "namespace": NAMESPACE, "creation_timestamp": None}
    )
    return resource.model_copy(update={"metadata": metadata, "status": status})


async def _first_of(*events: asyncio.Event, timeout: float) -> None:  # noqa: ASYNC109 - it is the pause of the loop
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
