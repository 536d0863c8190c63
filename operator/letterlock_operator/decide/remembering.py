"""What one decision leaves for the next, so that only what changed is worked on again.

Used by `whole` and what it calls. A result is remembered with everything that it was made from, and taken again only
where all of that is the same: it is what it would have been without, and a property test holds it to that
(`tests/decide/test_again.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, override

from letterlock_api.certificate import Certificate
from letterlock_api.destinationcontrol import DestinationControl
from letterlock_api.listener import Listener
from letterlock_operator.world import Keep, Unreadable, World

type _Secret = Keep | Unreadable


class Entry[V](NamedTuple):
    """One result, and what it was made from."""

    inputs: tuple[object, ...]
    read: Mapping[str, _Secret | None]
    """Secrets that were looked up on the way, by name; None: it was not there."""
    value: V
    until: datetime | None
    """It is another one from then on, even if nothing else changes; None: never."""


class Reads(Mapping[str, _Secret]):
    """Secrets, and which of them are looked up: nobody has to say beforehand which ones a rule may need."""

    def __init__(self, secrets: Mapping[str, _Secret]) -> None:
        self._secrets = secrets
        self._told: list[dict[str, _Secret | None]] = [{}]

    def begin(self) -> None:
        """Those from now on are told by `end`."""
        self._told.append({})

    def end(self) -> Mapping[str, _Secret | None]:
        """Those since `begin`; they count for whoever began before, too."""
        found = self._told.pop()
        self._told[-1].update(found)
        return found

    def same(self, read: Mapping[str, _Secret | None]) -> bool:
        """Whether looking these up gives the same today."""
        get = self._secrets.get
        if all(get(name) == value for name, value in read.items()):
            self._told[-1].update(read)
            return True
        return False

    @override
    def __getitem__(self, name: str) -> _Secret:
        found = self._secrets.get(name)
        self._told[-1][name] = found
        if found is None:
            raise KeyError(name)
        return found

    @override
    def __iter__(self) -> Iterator[str]:
        raise TypeError("who looks through all Secrets rests on each of them: use an index of the World")

    @override
    def __len__(self) -> int:
        return len(self._secrets)


def watched(world: World, reads: Reads) -> World:
    """The same world, whose Secrets tell that they are looked up."""
    view = replace(world, secrets=reads)
    # Its indexes look through all of them, once; who uses these says so in what it rests on.
    vars(view).update(users=world.users, ports=world.ports, owned=world.owned)
    return view


class Recall[V]:
    """Results of one kind by name: those of the decision before, and those of this one."""

    def __init__(self, before: Mapping[str, Entry[V]], reads: Reads, now: datetime) -> None:
        self._before = before
        self._reads = reads
        self._now = now
        self.after: dict[str, Entry[V]] = {}
        """What this decision has asked for."""

    def of(self, name: str, inputs: tuple[object, ...], make: Callable[[], tuple[V, datetime | None]]) -> V:
        """The result for `name`: the one before, or what `make` gives, with the moment at which it ends.

        `inputs`: all that `make` rests on but Secrets. What holds at this moment only ends at this moment.
        """
        known = self._before.get(name)
        if (
            known is not None
            and (known.until is None or known.until > self._now)
            and known.inputs == inputs
            and self._reads.same(known.read)
        ):
            # With the inputs of today: the same objects are compared faster the next time.
            self.after[name] = Entry(inputs, known.read, known.value, known.until)
            return known.value
        self._reads.begin()
        value, until = make()
        self.after[name] = Entry(inputs, self._reads.end(), value, until)
        return value


@dataclass(frozen=True, eq=False)
class Groups[R: (Certificate, DestinationControl, Listener)]:
    """Resources of one kind by gateway."""

    resources: Mapping[str, R] = field(default_factory=dict[str, R])
    by_gateway: Mapping[str, Mapping[str, R]] = field(default_factory=dict[str, Mapping[str, R]])

    def of(self, gateway: str) -> Mapping[str, R]:
        """Those of `gateway`, by name."""
        return self.by_gateway.get(gateway, {})

    def again(self, resources: Mapping[str, R]) -> "Groups[R]":
        """The groups of `resources`, most of which are the same objects as before: whose did not change stay."""
        old = self.resources
        changed = [name for name, one in resources.items() if old.get(name) is not one]
        gone = (
            [name for name in old if name not in resources]
            if len(old) + len(changed) > len(resources)
            else []
        )
        if not changed and not gone:
            return self
        fresh: dict[str, dict[str, R]] = {}

        def group(gateway: str) -> dict[str, R]:
            if gateway not in fresh:
                fresh[gateway] = dict(self.of(gateway))
            return fresh[gateway]

        for name in (*changed, *gone):
            if (one := old.get(name)) is not None:
                group(one.spec.gateway_ref.name).pop(name, None)
        for name in changed:
            one = resources[name]
            group(one.spec.gateway_ref.name)[name] = one
        kept = {gateway: some for gateway, some in self.by_gateway.items() if gateway not in fresh}
        return Groups(resources, {**kept, **{gateway: some for gateway, some in fresh.items() if some}})
