"""What was observed: plain, frozen values of one namespace. Decisions see nothing else.

One world is one namespace, because a namespace is one trust domain: all its gateways and all that belongs to them.
Not being there and not being readable are different values: a key of a dict that is missing means "is not there";
an `Unreadable` means "could not be read", and no decision may take it for absence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

from letterlock_api.calist import CAList
from letterlock_api.certificate import Certificate
from letterlock_api.conditions import Reason
from letterlock_api.destinationcontrol import DestinationControl
from letterlock_api.listener import Listener
from letterlock_api.mailgateway import MailGateway, MailGatewaySpec
from letterlock_api.state import MemberState


@dataclass(frozen=True)
class Unreadable:
    """Something that is there, or may be, and could not be read."""

    problem: str


@dataclass(frozen=True)
class Keep:
    """A Secret or ConfigMap: data by key, decoded."""

    name: str
    data: Mapping[str, bytes]
    type: str = "Opaque"
    ours: bool = False
    """Whether its controller owner reference names one of our resources (folders: whether we wrote it)."""
    owner: str = ""
    """`Kind/name` of that resource."""
    resource_version: str = ""
    inputs: str = ""
    """What the content was made from, where we wrote it for others to read (an export)."""


RequestState = Literal["Pending", "Approved", "Denied", "Failed"]


@dataclass(frozen=True)
class SigningRequest:
    """A CertificateSigningRequest of ours, as the cluster shows it."""

    name: str
    certificate: str
    """The Certificate that it was made for."""
    member: str
    attempt: int
    state: RequestState
    message: str = ""
    """What the signer or approver said."""
    since: datetime | None = None
    """When it came to that state."""
    chain: bytes = b""
    """What was signed, PEM; empty: nothing yet."""


@dataclass(frozen=True)
class Refusal:
    """Why an import did not work: it was tried, and trying the same again does not help."""

    reason: Reason
    message: str
    until: datetime | None = None
    """It does help from then on."""


@dataclass(frozen=True)
class FieldConflict:
    """An object of ours that somebody else changes again and again: it was put back, and is not for a while."""

    what: str
    """`Kind/name` of the object."""
    gateway: str
    """That it belongs to."""
    manager: str
    """Who changed it last, by the API server's word."""
    until: datetime
    """When it is put back again."""


@dataclass(frozen=True)
class InvalidResource:
    """A resource that does not fit the models; the API server refuses most of these, a folder cannot."""

    kind: str
    name: str
    generation: int | None
    problem: str
    """For people, one line."""


@dataclass(frozen=True)
class Member:
    """One gateway member as it was seen from here."""

    name: str
    ready: bool
    """Whether its pod is Ready (`up`: whether its process runs)."""
    state: MemberState | None
    """Its own word; None: it has not answered."""
    problem: str = ""
    """Why it has not answered."""
    address: str = ""
    """Where other members reach it; empty: not known."""
    leaving: bool = False
    """Whether it was told to end."""
    started: bool = False
    """Whether its container runs, or ran, in the pod that is there now."""
    restarts: int = 0
    """How often its container was started again in that pod."""
    halted: str = ""
    """Why its container does not run, by its kubelet's word; empty: it runs, or nobody says."""


@dataclass(frozen=True)
class World:
    """Everything that decisions about one namespace rest on."""

    namespace: str
    gateways: Mapping[str, MailGateway] = field(default_factory=dict[str, MailGateway])
    certificates: Mapping[str, Certificate] = field(default_factory=dict[str, Certificate])
    listeners: Mapping[str, Listener] = field(default_factory=dict[str, Listener])
    destinations: Mapping[str, DestinationControl] = field(default_factory=dict[str, DestinationControl])
    ca_lists: Mapping[str, CAList] = field(default_factory=dict[str, CAList])
    invalid: tuple[InvalidResource, ...] = ()
    secrets: Mapping[str, Keep | Unreadable] = field(default_factory=dict[str, Keep | Unreadable])
    config_maps: Mapping[str, Keep | Unreadable] = field(default_factory=dict[str, Keep | Unreadable])
    foreign: frozenset[str] = frozenset()
    """`Kind/name` of StatefulSets, Services and so on that exist without our owner reference."""
    members: Mapping[str, tuple[Member, ...]] = field(default_factory=dict[str, tuple[Member, ...]])
    """By gateway: every member that exists."""
    scales: Mapping[str, int] | None = None
    """By gateway: the members that its StatefulSet asks for now; missing: it has none yet. None: here are no such
    things, and each gateway has the one member that it has."""
    claims: frozenset[str] | None = None
    """Names of the claims of spool volumes that there are; None: nobody has looked, or they cannot be read."""
    requests: Mapping[str, SigningRequest] | Unreadable | None = None
    """Signing requests of ours by name; None: there is nobody here who could be asked."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict[str, Refusal])
    """Imports that were tried and did not work, by their `inputs`."""
    conflicts: tuple[FieldConflict, ...] = ()
    """Objects of ours that others keep changing, as far as they are left alone now."""
    system_roots: bytes = b""
    """Mozilla's roots, PEM (A1)."""

    def names_of_members(self, gateway: str) -> list[str]:
        """The members of `gateway`: those that are wanted, and those that are still there."""
        replicas = self.gateways[gateway].spec.replicas if gateway in self.gateways else 0
        wanted = [f"{gateway}-{ordinal}" for ordinal in range(replicas)]
        return wanted + [one.name for one in self.members.get(gateway, ()) if one.name not in wanted]

    # Indexes: who looks through all for each of a thousand takes a thousand times as long.

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        """By Certificate: what refers to it, as `Kind/name`, in order."""
        found: dict[str, set[str]] = {}
        for listener in self.listeners.values():
            for reference in listener.spec.certificate_refs:
                found.setdefault(reference.name, set()).add(f"Listener/{listener.name}")
        for gateway in self.gateways.values():
            for name in _certificates_of(gateway.spec):
                found.setdefault(name, set()).add(f"MailGateway/{gateway.name}")
        return {name: tuple(sorted(users)) for name, users in found.items()}

    @cached_property
    def ports(self) -> Mapping[tuple[str, int], tuple[Listener, ...]]:
        """By gateway and port: the Listeners that want it."""
        found: dict[tuple[str, int], list[Listener]] = {}
        for one in self.listeners.values():
            found.setdefault((one.spec.gateway_ref.name, one.spec.port), []).append(one)
        return {key: tuple(listeners) for key, listeners in found.items()}

    @cached_property
    def conflicting(self) -> Mapping[str, tuple[FieldConflict, ...]]:
        """By gateway: its objects that others keep changing."""
        found: dict[str, list[FieldConflict]] = {}
        for one in self.conflicts:
            found.setdefault(one.gateway, []).append(one)
        return {gateway: tuple(conflicts) for gateway, conflicts in found.items()}

    @cached_property
    def owned(self) -> Mapping[str, tuple[Keep, ...]]:
        """By owner (`Kind/name`): Secrets of ours that go with it."""
        found: dict[str, list[Keep]] = {}
        for one in self.secrets.values():
            if isinstance(one, Keep) and one.ours:
                found.setdefault(one.owner, []).append(one)
        return {owner: tuple(secrets) for owner, secrets in found.items()}


def _certificates_of(spec: MailGatewaySpec) -> list[str]:
    https = spec.management.https
    references = [
        spec.delivery.certificate_ref,
        https.certificate_ref if https else None,
        *(profile.certificate_ref for profile in spec.ldap),
    ]
    return [one.name for one in references if one is not None]
