"""Observes all that decisions rest on: the folder, what was made from it, and the members. Called by `reconcile`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import certifi

from letterlock_api.kinds import AnyResource
from letterlock_api.resource import Metadata
from letterlock_api.snapshot import SNAPSHOT_FILE, is_private
from letterlock_cli.up import folder, mounts
from letterlock_cli.up.processes import LOOPBACK, MemberProcess
from letterlock_cli.up.state import Key, State, spec_as_written
from letterlock_operator import members, names
from letterlock_operator.plan import AnyStatus
from letterlock_operator.world import Keep, Member, Refusal, World

NAMESPACE: Final = "default"


@dataclass
class Observer:
    """What is known of the folder, with what an API server would keep beside it: generations and statuses."""

    directory: Path
    state: State
    contents: folder.Contents = field(default_factory=folder.Contents, init=False)
    _resources: dict[Key, AnyResource] = field(default_factory=dict[Key, AnyResource], init=False)
    _ensured: dict[Key, AnyResource] = field(default_factory=dict[Key, AnyResource], init=False)
    """What decisions asked for beside the folder: the system CA list."""
    _roots: bytes = field(default_factory=lambda: Path(certifi.where()).read_bytes(), init=False)

    def read_folder(self) -> None:
        """Read the folder anew. Raises CommandError where it cannot be listed."""
        self.contents = folder.read(self.directory, self.state.manifests)
        stored = self.state.resources()
        self._resources = {
            key: _remembered(resource, stored.get(key)) for key, resource in self.contents.resources.items()
        }
        for key in self._ensured.keys() & self._resources.keys():
            del self._ensured[key]  # the folder has one of its own now

    def ensure(self, resource: AnyResource) -> None:
        """Keep a resource that the folder has not got."""
        key = (resource.kind, resource.name)
        self._ensured[key] = _remembered(resource, self.state.resources().get(key))

    def store_statuses(self, statuses: Mapping[Key, AnyStatus]) -> None:
        """Write what was decided, and forget what is gone."""
        for key, status in statuses.items():
            known = self._resources if key in self._resources else self._ensured
            resource = known.get(key)
            if resource is None:
                self.state.store_invalid(*key, status)
            elif resource.status != status:
                self.state.store_status(resource, status)
                known[key] = resource.model_copy(update={"status": status})
        for kind, name in self.state.objects().keys() - statuses.keys():
            self.state.forget_status(kind, name)

    async def world(self, processes: Mapping[str, MemberProcess], refusals: Mapping[str, Refusal]) -> World:
        """Everything, as it is now. `processes`: by gateway; `refusals`: imports that did not work."""
        keeps = self.state.keeps()
        resources = {**self._ensured, **self._resources}

        def of(wanted: str) -> dict[str, Any]:
            return {name: one for (kind, name), one in resources.items() if kind == wanted}

        gateways = of("MailGateway")
        seen = await asyncio.gather(
            *(_members(processes.get(one), keeps.get(names.internal_secret(one))) for one in gateways)
        )
        snapshots, keys = self._in_place(gateways)
        texts = self.state.texts()
        return World(
            namespace=NAMESPACE,
            gateways=gateways,
            certificates=of("Certificate"),
            listeners=of("Listener"),
            destinations=of("DestinationControl"),
            ca_lists=of("CAList"),
            invalid=tuple(self.contents.invalid),
            secrets={**keeps, **keys, **self.contents.secrets},
            config_maps={**texts, **snapshots, **self.contents.config_maps},
            members=dict(zip(gateways, seen, strict=True)),
            refusals=dict(refusals),
            system_roots=self._roots,
        )

    def _in_place(self, gateways: Mapping[str, object]) -> tuple[dict[str, Keep], dict[str, Keep]]:
        """What is mounted now, as the ConfigMaps and Secrets that it comes from on a cluster."""
        snapshots: dict[str, Keep] = {}
        keys: dict[str, Keep] = {}
        for gateway in gateways:
            files = mounts.current(self.state.mount(gateway)) or {}
            owner = f"MailGateway/{gateway}"
            if SNAPSHOT_FILE in files:
                name = names.snapshot_config_map(gateway)
                only = {SNAPSHOT_FILE: files[SNAPSHOT_FILE]}
                snapshots[name] = Keep(name, only, ours=True, owner=owner)
                name = names.key_shard(gateway, 0)
                private = {file: content for file, content in files.items() if is_private(file)}
                keys[name] = Keep(name, private, ours=True, owner=owner)
                name = names.ca_shard(gateway, 0)
                public = {file: content for file, content in files.items() if file.startswith("ca-")}
                snapshots[name] = Keep(name, public, ours=True, owner=owner)
        return snapshots, keys


async def _members(process: MemberProcess | None, identity: Keep | None) -> tuple[Member, ...]:
    if process is None or identity is None:
        return ()
    name = process.launch.member
    if not process.running:
        return (Member(name, ready=False, state=None, problem="its process does not run"),)
    try:
        state = await members.poll(LOOPBACK, process.state_port, identity)
    except members.MemberUnreachable as error:
        # One that starts is not ready; one that was and is silent now is unreachable: as a pod would be.
        return (Member(name, ready=process.was_ready, state=None, problem=str(error)),)
    process.was_ready = process.was_ready or bool(state.snapshot or state.refused)
    return (Member(name, ready=process.was_ready, state=state),)


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
