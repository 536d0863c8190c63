"""ConfigMaps with CA lists as text files (A4), as CALists ask for them. Called by `whole`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from letterlock_api import listings
from letterlock_api.calist import CAList
from letterlock_api.conditions import Reason
from letterlock_operator import names
from letterlock_operator.decide.imports import Entry
from letterlock_operator.decide.verdicts import Finding
from letterlock_operator.plan import TextFile
from letterlock_operator.world import Keep, World


@dataclass
class Exports:
    """The ConfigMaps with exports of one namespace, as they are decided one after the other."""

    world: World
    files: dict[str, TextFile] = field(default_factory=dict[str, TextFile])

    def add(self, resource: CAList, entries: Sequence[Entry]) -> Finding | None:
        """The export of `resource`, or why there is none."""
        wanted = resource.spec.export
        if wanted is None:
            return None
        owner = f"CAList/{resource.name}"
        found = self.world.config_maps.get(wanted.config_map_name)
        theirs = isinstance(found, Keep) and not (found.ours and found.owner == owner)
        if theirs or wanted.config_map_name in self.files or wanted.config_map_name in self._mounted():
            return (
                Reason.NAME_TAKEN,
                f"ConfigMap {wanted.config_map_name} is not this list's: give spec.export.configMapName another name",
            )
        if found is None or isinstance(found, Keep):
            content = {wanted.file_name: listings.text(resource.name, entries)}
            self.files[wanted.config_map_name] = TextFile(wanted.config_map_name, owner, content)
        return None

    def emptied(self) -> list[TextFile]:
        """ConfigMaps of lists that no longer ask for them: emptied, for the operator may delete none."""
        mine = [
            keep
            for keep in self.world.config_maps.values()
            if isinstance(keep, Keep) and keep.ours and keep.owner.startswith("CAList/")
        ]
        return [TextFile(one.name, one.owner, {}) for one in mine if self._unasked(one)]

    def _unasked(self, keep: Keep) -> bool:
        resource = self.world.ca_lists.get(keep.owner.partition("/")[2])
        if resource is None:
            return False  # it cannot be read, or has gone: then its ConfigMap goes with it
        return resource.spec.export is None or resource.spec.export.config_map_name != keep.name

    def _mounted(self) -> frozenset[str]:
        """Names of ConfigMaps that members mount as they are: an export there would be one of their files."""
        return frozenset(
            name
            for gateway in self.world.gateways
            for name in (
                names.snapshot_config_map(gateway),
                *(names.ca_shard(gateway, number) for number in range(names.CA_SHARDS)),
            )
        )
