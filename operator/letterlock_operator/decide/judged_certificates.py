"""What was decided of one Certificate: made by `certificates`, told by `statuses`, served by `snapshots`. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from letterlock_api.certificate import Level
from letterlock_api.snapshot import ServedCertificate, tls_file_name
from letterlock_operator.decide import dating
from letterlock_operator.decide.chains import Chain
from letterlock_operator.decide.slots import Filled
from letterlock_operator.decide.verdicts import Verdict
from letterlock_operator.plan import Request, Retire, SecretOrder


@dataclass(frozen=True)
class JudgedCertificate:
    """A Certificate, judged."""

    accepted: Verdict
    ready: Verdict
    level: Level
    slots: Mapping[str, Filled] = field(default_factory=dict[str, Filled])
    """By member; `""` at Cluster level."""
    warnings: tuple[Verdict, ...] = ()
    exports: tuple[SecretOrder, ...] = ()
    retired: tuple[Retire, ...] = ()
    earlier: Mapping[str, str] = field(default_factory=dict[str, str])
    """By member: the file that is in use where there is no pair now (Machine level)."""
    unfit: bool = False
    """Whether there is no room for it among what members mount: `ready` says so, and what was served before stays."""

    @property
    def chains(self) -> Mapping[str, Chain]:
        """What can be served, by member."""
        return {member: one.chain for member, one in self.slots.items() if one.chain is not None}

    @property
    def issues(self) -> tuple[SecretOrder, ...]:
        """Keys and certificates to make or to put in place."""
        return tuple(order for one in self.slots.values() for order in one.orders)

    @property
    def asks(self) -> tuple[Request, ...]:
        """Requests to Kubernetes signers."""
        return tuple(order for one in self.slots.values() for order in one.asks)

    @property
    def renewal(self) -> datetime | None:
        """When renewal starts."""
        return min((one.renewal for one in self.slots.values() if one.renewal is not None), default=None)

    def wakes(self, now: datetime) -> list[datetime]:
        """When to decide again even if nothing happens."""
        return [moment for moment in self._moments() if moment > now]

    def holds_until(self, now: datetime) -> datetime | None:
        """Until when it is the same if nothing happens; `now`: at this moment only. None: for good."""
        at_rest = self.ready.holds and not (self.issues or self.asks or self.exports or self.retired)
        # A certificate that begins later is one of a clock that was ahead: what that means changes with ours.
        begun = all(one.chain is None or one.chain.start <= now for one in self.slots.values())
        if not at_rest or not begun:
            return now
        return min((moment for moment in self._moments() if moment >= now), default=None)

    def _moments(self) -> list[datetime]:
        found = [moment for one in self.slots.values() for moment in one.wakes]
        if self.renewal is not None:
            found.append(self.renewal)
        for chain in self.chains.values():
            found += [chain.end, chain.end - dating.soon(chain)]
            found += [one.not_valid_after_utc - dating.SOON for one in chain.intermediates]
        return found

    def served(self, name: str, *, demo: bool = False) -> ServedCertificate | None:
        """The certificate as members use it; None: there is nothing to serve."""
        if not self.chains or self.unfit:
            return None
        files = {member: file for member, file in self.earlier.items() if member in self.slots}
        files |= {member: tls_file_name(chain.pem) for member, chain in self.chains.items()}
        # Clients ask for a name whether it stands as an alternative one or, of old, as the common name alone.
        found = (name for chain in self.chains.values() for name in chain.names or [chain.common_name or ""])
        names = sorted({name.lower() for name in found if name})
        if "" in files:
            return ServedCertificate(name=name, file=files[""], demo=demo, names=names)
        return ServedCertificate(name=name, files=files, demo=demo, names=names)

    def files(self) -> dict[str, bytes]:
        """The files that `served` names."""
        if self.unfit:
            return {}
        return {tls_file_name(chain.pem): chain.pem for chain in self.chains.values()}
