"""CA lists with their texts, as decisions want to see them, gathered for one command. Called by `calist_commands`."""

import base64
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, part
from letterlock_cli.source import Where, secret

if TYPE_CHECKING:
    from letterlock_api.calist import CAList
    from letterlock_cli.targets import Target
    from letterlock_operator.decide.imports import Entry, Usable
    from letterlock_operator.world import World

_SYSTEM = "system"


def offered(
    where: Where, there: "Target", name: str, spec: Mapping[str, Any], pem: bytes, now: datetime
) -> "Usable":
    """What of `pem` would count as list `name` of this spec, beside the lists that are there."""
    from letterlock_operator.decide import authorities, imports

    world = _world(where, there)
    wanted = _parsed({"metadata": {"name": name}, "spec": {**spec, "type": "Custom"}})
    if wanted is None:
        raise CommandError(f"CAList {name} as it is cannot be read: see letterlock calist show {name}")
    world = replace(world, ca_lists={**world.ca_lists, name: wanted})
    return authorities.usable(name, imports.read(pem), world, now)


def counting(where: Where, there: "Target", name: str) -> "Sequence[Entry]":
    """What counts of list `name` now. Raises CommandError where there is none, or its text cannot be had."""
    from letterlock_operator.decide import authorities, imports
    from letterlock_operator.decide.verdicts import Verdict

    world = _world(where, there)
    if name not in world.ca_lists:
        have = ", ".join(sorted(world.ca_lists))
        raise CommandError(f"there is no CAList {name}; there are: {have}")
    if name == _SYSTEM and where.directory is None:
        world = replace(world, system_roots=_in_place(there) or world.system_roots)
    text = authorities.source(name, world)
    if isinstance(text, Verdict):
        print(f"warning: CAList/{name}: {text.message}", file=sys.stderr)
        return ()
    return authorities.usable(name, imports.read(text), world, datetime.now(UTC)).entries


def _world(where: Where, there: "Target") -> "World":
    """All lists with what they refer to; what cannot be read counts as not there."""
    from letterlock_operator.observe import system_roots
    from letterlock_operator.world import Keep, World

    found = [_parsed(item) for item in there.all("CAList")]
    lists = {one.name: one for one in found if one is not None}
    if _SYSTEM not in lists:
        system = _parsed({"metadata": {"name": _SYSTEM}, "spec": {"type": "System"}})
        lists |= {_SYSTEM: system} if system is not None else {}
    keeps: dict[str, dict[str, Keep]] = {"Secret": {}, "ConfigMap": {}}
    for one in lists.values():
        source = one.spec.certificates_from
        for kind, reference in (
            ("Secret", source.secret_key_ref if source else None),
            ("ConfigMap", source.config_map_key_ref if source else None),
        ):
            if reference is not None:
                data = _data(where, there, kind, reference.name)
                keeps[kind] |= {} if data is None else {reference.name: Keep(reference.name, data)}
    return World(
        "",
        ca_lists=lists,
        secrets=dict(keeps["Secret"]),
        config_maps=dict(keeps["ConfigMap"]),
        system_roots=system_roots(),
    )


def _parsed(item: Object) -> "CAList | None":
    from letterlock_api.calist import CAList

    try:
        return CAList.model_validate({key: item[key] for key in ("metadata", "spec") if key in item})
    except ValueError:
        return None


def _data(where: Where, there: "Target", kind: str, name: str) -> dict[str, bytes] | None:
    found = there.find(kind, name)
    if found is None:
        if kind != "Secret" or where.directory is None:
            return None
        try:  # made by `letterlock up`
            return secret(where, name)
        except CommandError:
            return None
    return _decoded(found)


def _decoded(item: Object) -> dict[str, bytes]:
    """The data of a Secret or ConfigMap, as manifests and API servers write it."""
    encoded, plain = ("data", "stringData") if item["kind"] == "Secret" else ("binaryData", "data")
    data = {key: base64.b64decode(str(value or "")) for key, value in part(item, encoded).items()}
    return data | {key: str(value).encode() for key, value in part(item, plain).items()}


def _in_place(there: "Target") -> bytes:
    """The system list as members of a cluster have it: the operator's release may be another than ours."""
    from letterlock_api.mailgateway import MailGateway
    from letterlock_operator import names
    from letterlock_operator.decide import in_place
    from letterlock_operator.world import Keep, World

    gateways = {
        one["metadata"]["name"]: MailGateway.model_validate({"metadata": {"name": one["metadata"]["name"]}})
        for one in there.all("MailGateway")
    }
    maps: dict[str, Keep] = {}
    for gateway in gateways:
        for name in (
            names.snapshot_config_map(gateway),
            *(names.ca_shard(gateway, number) for number in range(names.CA_SHARDS)),
        ):
            found = there.find("ConfigMap", name)
            if found is not None:
                maps[name] = Keep(name, _decoded(found), ours=True)
    world = World("", gateways=gateways, config_maps=dict(maps))
    earlier = in_place.earlier_list(world, in_place.all_previous(world), _SYSTEM)
    return earlier.content if earlier is not None else b""
