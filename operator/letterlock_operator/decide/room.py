"""Where the files that members mount lie, and which of them have no place: an object ends at 1 MiB.

Called by `fitting`.

A file stays where it lies for as long as it is wanted, so that a change moves nothing else. A new one goes where its
name says, or to the next shard that has room. What is mounted already comes first, then the older resource: nobody's
certificate goes because somebody else's has grown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from letterlock_api.conditions import Reason
from letterlock_api.snapshot import is_private
from letterlock_operator import names
from letterlock_operator.decide.verdicts import Finding
from letterlock_operator.world import Keep, World

# While a set changes, its old and its new files lie side by side in one object.
SHARD: Final = 500 * 1024


@dataclass(frozen=True)
class Refused:
    """What is left as it is for want of room, by name."""

    lists: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()
    credentials: frozenset[str] = frozenset()
    """Secrets with a sign-in for next hops."""

    def __or__(self, more: "Refused") -> "Refused":
        return Refused(
            self.lists | more.lists,
            self.certificates | more.certificates,
            self.credentials | more.credentials,
        )


@dataclass(frozen=True)
class Placed:
    """Files and their shards."""

    shards: Mapping[str, int] = field(default_factory=dict[str, int])
    left: frozenset[str] = frozenset()
    """Those without room."""


def place(world: World, gateway: str, sizes: Mapping[str, int]) -> Placed:
    """A shard for every file. `sizes`: bytes by file name, in the order in which new ones are taken."""
    shards: dict[str, int] = {}
    left: set[str] = set()
    for private in (True, False):
        count = names.KEY_SHARDS if private else names.CA_SHARDS
        wanted = [file for file in sizes if is_private(file) is private]
        lying = _lying(world, gateway, private=private)
        loads = [0] * count
        for file in sorted(wanted, key=lambda one: one not in lying):  # stable: otherwise as given
            shard = _shard(file, sizes[file], lying.get(file), loads)
            if shard is None:
                left.add(file)
            else:
                loads[shard] += sizes[file]
                shards[file] = shard
    return Placed(shards, frozenset(left))


def finding(size: int, what: str) -> Finding:
    """Why something of `size` bytes (its largest file) has no place."""
    return larger_than_all("it", size) or (
        Reason.TOO_LARGE,
        f"there is no room for it beside the gateway's other {what}: remove some, or use a second MailGateway",
    )


def larger_than_all(what: str, size: int) -> Finding | None:
    """Why one file of `size` bytes could have no place, whatever else there is; None: it could."""
    if size <= SHARD:
        return None
    return (
        Reason.TOO_LARGE,
        f"{what} has {size // 1024} KiB, more than members can mount: {SHARD // 1024} KiB",
    )


def held_back() -> Finding:
    """Why a sign-in for next hops has no place, and what becomes of the mail that needs it."""
    reason, text = finding(0, "keys")
    return reason, f"its sign-in: {text}; until then, mail for these domains is held back"


def _shard(file: str, size: int, lies: int | None, loads: Sequence[int]) -> int | None:
    count = len(loads)
    first = names.shard_of(file, count)
    probed = [(first + step) % count for step in range(count)]
    candidates = probed if lies is None else [lies, *probed]
    return next((shard for shard in candidates if loads[shard] + size <= SHARD), None)


def _lying(world: World, gateway: str, *, private: bool) -> dict[str, int]:
    """The shard in which each file lies now; the first, should there be several."""
    found: dict[str, int] = {}
    for number in range(names.KEY_SHARDS if private else names.CA_SHARDS):
        keep = (
            world.secrets.get(names.key_shard(gateway, number))
            if private
            else world.config_maps.get(names.ca_shard(gateway, number))
        )
        if isinstance(keep, Keep) and keep.ours:
            for file in keep.data:
                found.setdefault(file, number)
    return found
