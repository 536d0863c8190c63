"""The set that a gateway's members have mounted, as far as a command needs it: of a cluster, or of `letterlock up`.

Called by `check_command`. On a cluster it is read from the objects that the operator writes; of Secrets only those that
hold what is needed, and without the right to read them the command goes on as far as it can.
"""

import asyncio
import base64
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import part
from letterlock_cli.source import Where, client, state_directory

if TYPE_CHECKING:
    from letterlock_operator.api import API


@dataclass(frozen=True)
class Taken:
    """A snapshot with the files that the command needs."""

    gateway: str
    snapshot: Any
    """letterlock_api.snapshot.Snapshot."""
    files: Mapping[str, bytes]


def take(where: Where, gateway: str, member: str, domain: str) -> Taken:
    """What `domain`'s deliveries rest on. `gateway` and `member`: empty for the only, or the first, one.

    Raises CommandError.
    """
    if where.directory is not None or where.state is not None:
        return _in_folder(where, gateway)
    return asyncio.run(_on_cluster(where, gateway, member, domain))


def first_member(gateway: str) -> str:
    """The member whose terms hold where none is named."""
    return f"{gateway}-0"


def _in_folder(where: Where, gateway: str) -> Taken:
    from letterlock_gateway import mount

    mounts = state_directory(where) / "mount"
    found = sorted(one.name for one in mounts.iterdir() if one.is_dir()) if mounts.is_dir() else []
    chosen = _chosen(found, gateway)
    try:
        mounted = mount.read(mounts / chosen)
    except mount.MountRefused as problem:
        raise CommandError(f"MailGateway {chosen} has no set to deliver by: {problem}") from problem
    return Taken(chosen, mounted.snapshot, mounted.files)


async def _on_cluster(where: Where, gateway: str, member: str, domain: str) -> Taken:
    from letterlock_api.snapshot import decode
    from letterlock_gateway.manage.checking import needed
    from letterlock_operator import api, names, observe

    async with client(where) as (cluster, namespace):
        try:
            gateways, _ = await cluster.list("MailGateway", namespace)
            chosen = _chosen(sorted(one["metadata"]["name"] for one in gateways), gateway)
            written = await cluster.get("ConfigMap", namespace, names.snapshot_config_map(chosen))
            snapshot = decode(observe.snapshot_in(written))
        except api.NotFound as error:
            raise CommandError(
                f"namespace {namespace} has no snapshot of MailGateway {gateway or 'default'} (yet): "
                "does the operator run?"
            ) from error
        except api.APIError as error:
            raise CommandError(f"cannot read the snapshot in namespace {namespace}: {error}") from error
        except ValueError as error:
            raise CommandError(f"the snapshot in namespace {namespace} cannot be used: {error}") from error
        wanted = needed(snapshot, domain, member or first_member(chosen))
        files: dict[str, bytes] = {}
        for file in wanted.files:
            content = await _file(cluster, namespace, chosen, file)
            if content is not None:
                files[file] = content
    certificate = wanted.delivery.certificate
    if certificate is not None and certificate.file_for(member or first_member(chosen)) not in files:
        print(
            "warning: the certificate for outgoing TLS cannot be read (it takes the right to get Secrets): none is"
            " presented; --inside presents it",
            file=sys.stderr,
        )
        delivery = wanted.delivery.model_copy(update={"certificate": None})
        snapshot = snapshot.model_copy(update={"delivery": delivery})
        wanted = needed(snapshot, domain, member or first_member(chosen))
    missing = [file for file in wanted.files if file not in files]
    if missing:
        raise CommandError(
            f"file {missing[0]} of the snapshot cannot be read: get the right to read Secrets, or check with --inside"
        )
    return Taken(chosen, snapshot, files)


async def _file(cluster: "API", namespace: str, gateway: str, file: str) -> bytes | None:
    """A file of the snapshot; None: it is not there, or not for us."""
    from letterlock_api.snapshot import is_private
    from letterlock_operator import api, names

    try:
        if is_private(file):
            shard = names.key_shard(gateway, names.shard_of(file, names.KEY_SHARDS))
            data = part(await cluster.get("Secret", namespace, shard), "data")
            return base64.b64decode(data[file]) if file in data else None
        shard = names.ca_shard(gateway, names.shard_of(file, names.CA_SHARDS))
        data = part(await cluster.get("ConfigMap", namespace, shard), "data")
        return str(data[file]).encode() if file in data else None
    except api.APIError as error:
        if error.status in (401, 403, 404):
            return None
        raise CommandError(f"cannot read file {file} of the snapshot: {error}") from error


def _chosen(found: list[str], wanted: str) -> str:
    if wanted:
        if wanted not in found:
            raise CommandError(f"there is no MailGateway {wanted}: there is {', '.join(found) or 'none'}")
        return wanted
    if len(found) == 1 or "default" in found:
        return found[0] if len(found) == 1 else "default"
    raise CommandError(
        f"say with --gateway which MailGateway delivers: {', '.join(found)}"
        if found
        else "there is no MailGateway that has been decided on yet"
    )
