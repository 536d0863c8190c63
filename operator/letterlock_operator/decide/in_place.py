"""What stands now: the snapshot that members have mounted, and what it says of resources that are gone or bad.

The last good state keeps running; this is where decisions find it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from letterlock_api import packing
from letterlock_api.calist import SYSTEM_LIST, CAList
from letterlock_api.snapshot import (
    SNAPSHOT_FILE,
    Destination,
    Snapshot,
    SnapshotDirectory,
    SnapshotListener,
    decode,
)
from letterlock_operator import names
from letterlock_operator.world import Keep, World

OFF = "off"
"""Digest of a CA list that is switched off."""


@dataclass(frozen=True)
class Earlier:
    """A CA list as members have it."""

    content: bytes
    """PEM."""
    is_global: bool
    gateways: frozenset[str]
    """Those that have it."""


def previous(world: World, gateway: str) -> Snapshot | None:
    """The snapshot in place; None: there is none that can be read."""
    found = packed(world, gateway)
    return None if found is None else read(found)


def packed(world: World, gateway: str) -> bytes | None:
    """The snapshot in place as it lies there; None: there is none of ours."""
    found = world.config_maps.get(names.snapshot_config_map(gateway))
    return found.data.get(SNAPSHOT_FILE) if isinstance(found, Keep) and found.ours else None


def read(content: bytes) -> Snapshot | None:
    """The snapshot in `content`, as `packed` gives it; None: it cannot be read."""
    try:
        return decode(packing.unpack(content))
    except ValueError:
        return None


def still_said(world: World, before: Snapshot | None) -> Snapshot | None:
    """What of the snapshot in place a new one may rest on."""
    if before is None or any(one.kind == "DestinationControl" for one in world.invalid):
        return before
    return before.model_copy(update={"destinations": [], "digests": {}, "files": []})


def all_previous(world: World) -> dict[str, Snapshot]:
    """The snapshots in place, by gateway; read once per decision, for large ones take long."""
    found = {name: previous(world, name) for name in sorted(world.gateways)}
    return {name: one for name, one in found.items() if one is not None}


def earlier_list(world: World, snapshots: Mapping[str, Snapshot], name: str) -> Earlier | None:
    """CA list `name` as it is in place; None: no gateway has it (it was off, or new)."""
    having: dict[str, bytes] = {}
    is_global = True
    for gateway, snapshot in snapshots.items():
        trusted = snapshot.trust.get(name)
        content = _ca_file(world, gateway, trusted.file) if trusted is not None else None
        if trusted is not None and content is not None:
            having[gateway] = content
            is_global = trusted.is_global
    if not having:
        return None
    return Earlier(having[min(having)], is_global, frozenset(having))


def with_system_list(world: World, snapshots: Mapping[str, Snapshot]) -> World:
    """`world` with the system list in it, as it was, where somebody has deleted it or it was never made (A1)."""
    if not world.gateways or SYSTEM_LIST in world.ca_lists:
        return world
    if any(one.kind == "CAList" and one.name == SYSTEM_LIST for one in world.invalid):
        return world
    body = {"metadata": {"name": SYSTEM_LIST}, "spec": _system_spec(snapshots)}
    return replace(world, ca_lists={**world.ca_lists, SYSTEM_LIST: CAList.model_validate(body)})


def _system_spec(snapshots: Mapping[str, Snapshot]) -> dict[str, Any]:
    """What can be told of the system list's earlier specification: whether it was on, and where it counted."""
    spec: dict[str, Any] = {"type": "System"}
    trusted = [one.trust[SYSTEM_LIST] for one in snapshots.values() if SYSTEM_LIST in one.trust]
    if trusted:
        return spec if trusted[0].is_global else {**spec, "scope": "Referenced"}
    off = any(one.digests.get(f"CAList/{SYSTEM_LIST}") == OFF for one in snapshots.values())
    return {**spec, "enabled": False} if off else spec


def invalid_listeners(world: World, old: Mapping[str, SnapshotListener]) -> list[SnapshotListener]:
    """What a listener was before its manifest became invalid: the last good state keeps running (L9)."""
    return [old[one.name] for one in world.invalid if one.kind == "Listener" and one.name in old]


def directories_still_asked(
    opened: Sequence[SnapshotListener], known: Sequence[SnapshotDirectory], before: Snapshot | None
) -> list[SnapshotDirectory]:
    """Those that are not in the MailGateway any more, and that a listener asks which stays as it was (L9)."""
    asked = {one.query.directory for one in opened if one.query is not None}
    asked -= {one.name for one in known}
    return [one for one in (before.directories if before else []) if one.name in asked]


def invalid_destinations(
    world: World, before: Snapshot | None, owners: Mapping[str, str]
) -> list[Destination]:
    """Those of invalid DestinationControls as they were: no domain falls to a weaker policy.

    `owners`: the domains that others speak for by now.
    """
    invalid = {one.name for one in world.invalid if one.kind == "DestinationControl"}
    old = (
        [one for one in (before.destinations if before else []) if one.resource in invalid] if invalid else []
    )
    kept: list[Destination] = []
    for one in old:
        rest = [domain for domain in one.domains if domain not in owners]
        if rest:
            kept.append(one.model_copy(update={"domains": rest}))
    return kept


def key_files(world: World, gateway: str) -> dict[str, bytes]:
    """Key files of the snapshot in place: what listeners keep when their certificate is gone."""
    found: dict[str, bytes] = {}
    for number in range(names.KEY_SHARDS):
        secret = world.secrets.get(names.key_shard(gateway, number))
        if isinstance(secret, Keep) and secret.ours:
            found |= dict(secret.data)
    return found


def member_files(before: Snapshot | None, kept: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """By Certificate of Machine level, and by member: the file that is in use, as far as it is among those `kept`."""
    found: dict[str, dict[str, str]] = {}
    for one in before.served() if before is not None else ():
        there = {member: file for member, file in one.files.items() if file in kept}
        found.setdefault(one.name, {}).update(there)
    return found


def _ca_file(world: World, gateway: str, file: str) -> bytes | None:
    for number in range(names.CA_SHARDS):
        shard = world.config_maps.get(names.ca_shard(gateway, number))
        if isinstance(shard, Keep) and shard.ours and file in shard.data:
            return shard.data[file]
    return None
