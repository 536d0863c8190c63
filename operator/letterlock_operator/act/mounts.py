"""What members have mounted: files first, then the snapshot that names them, then old files away.

Called by `act.carry`. At every moment the snapshot in place is complete: file names are hashes of their
content, new ones are added before `snapshot.json` names them, old ones go once every Ready member runs it.
"""

import base64
import logging
import operator
from collections.abc import Mapping, Sequence
from typing import Final

from letterlock_api import packing
from letterlock_api.snapshot import SNAPSHOT_FILE
from letterlock_api.state import INTERNAL_CA_FILE, INTERNAL_CERTIFICATE_FILE
from letterlock_operator import names, observe
from letterlock_operator.act import derived
from letterlock_operator.act.cluster import Cluster
from letterlock_operator.api import Object
from letterlock_operator.plan import Mount
from letterlock_operator.world import Keep, Member

_OWNER: Final = "MailGateway"
# Where the API server ends an object's data.
_OBJECT: Final = 1 << 20
_log = logging.getLogger(__name__)


async def write(cluster: Cluster, gateway: str, mount: Mount, members: Sequence[Member]) -> None:
    """Bring the gateway's mounted objects closer to `mount`. Raises api.APIError."""
    everybody = all(m.state is not None and m.state.snapshot == mount.hash for m in members if m.ready)
    lying = _lying(cluster, gateway)
    if cluster.rests("mount", gateway, mount, everybody, *lying):
        return
    stored = cluster.known.objects["ConfigMap"].get(names.snapshot_config_map(gateway))
    before = observe.snapshot_in(stored)
    keep = "" if before == mount.encoded and everybody else before.decode(errors="replace")
    keys = await _shards(cluster, gateway, "Secret", mount, keep)
    if not keys or not await _shards(cluster, gateway, "ConfigMap", mount, keep):
        _log.warning("gateway %s/%s keeps its snapshot: a name is taken", cluster.namespace, gateway)
        return
    name = names.snapshot_config_map(gateway)
    if packing.is_packed(mount.packed):
        wanted = _object(cluster, gateway, "ConfigMap", name, {})
        wanted["binaryData"] = {SNAPSHOT_FILE: _encode(mount.packed)}
    else:
        wanted = _object(cluster, gateway, "ConfigMap", name, {SNAPSHOT_FILE: mount.packed.decode()})
    await derived.put(cluster, wanted)
    # What others keep changing is put back after a while, though nothing else happens.
    if not cluster.memory.conflicts and all(map(operator.is_, lying, _lying(cluster, gateway))):
        cluster.quiet("mount", gateway, mount, everybody, *lying)


def _lying(cluster: Cluster, gateway: str) -> list[Object | None]:
    """The objects that members mount, as they are."""
    secrets, maps = cluster.known.objects["Secret"], cluster.known.objects["ConfigMap"]
    return [
        *(secrets.get(names.key_shard(gateway, number)) for number in range(names.KEY_SHARDS)),
        *(maps.get(names.ca_shard(gateway, number)) for number in range(names.CA_SHARDS)),
        maps.get(names.snapshot_config_map(gateway)),
    ]


async def write_identity(cluster: Cluster, gateway: str, internal: Keep) -> None:
    """Give the members their side of the internal identity: not the CA's key, and not the operator's."""
    name = names.member_secret(gateway)
    stored = cluster.known.objects["Secret"].get(name)
    if cluster.rests("identity", gateway, internal, stored):
        return
    data = {name: _encode(internal.data[name]) for name in (INTERNAL_CERTIFICATE_FILE, INTERNAL_CA_FILE)}
    await derived.put(cluster, _object(cluster, gateway, "Secret", name, data))
    if not cluster.memory.conflicts and cluster.known.objects["Secret"].get(name) is stored:
        cluster.quiet("identity", gateway, internal, stored)


async def _shards(cluster: Cluster, gateway: str, kind: str, mount: Mount, keep: str) -> bool:
    """Write the files, each to its shard. False: not all of the shards are ours.

    `keep`: the snapshot in place, whose files stay beside the new ones; empty: no old file stays. Older ones than
    these stay too, for members that are about to mount them, for as long as there is room.
    """
    ours = True
    secret = kind == "Secret"
    count = names.KEY_SHARDS if secret else names.CA_SHARDS
    wanted: list[dict[str, str]] = [{} for _ in range(count)]
    for file, content in (mount.tls_files if secret else mount.ca_files).items():
        wanted[mount.shards[file]][file] = _encode(content) if secret else content.decode()
    for number, data in enumerate(wanted):
        name = names.key_shard(gateway, number) if secret else names.ca_shard(gateway, number)
        stored = cluster.known.objects[kind].get(name)
        old: Mapping[str, str] = (stored or {}).get("data") or {}
        if stored is None and not data:
            continue
        content = {**old, **data} if keep else data
        if _size(content, secret=secret) > _OBJECT:
            content = {**{file: text for file, text in old.items() if file in keep}, **data}
        ours &= await derived.put(cluster, _object(cluster, gateway, kind, name, content))
    return ours


def _size(data: Mapping[str, str], *, secret: bool) -> int:
    """Bytes as the API server counts them: decoded."""
    whole = sum(map(len, data.values()))
    return whole * 3 // 4 if secret else whole


def _object(cluster: Cluster, gateway: str, kind: str, name: str, data: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": dict(names.labels(gateway)),
            "ownerReferences": [cluster.owner_reference(f"{_OWNER}/{gateway}")],
        },
        "data": dict(data),
    }


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
