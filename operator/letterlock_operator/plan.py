"""What was decided: plain, frozen values that `act` carries out, on a cluster or on a folder; twice does no harm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from letterlock_api.calist import CAListStatus
from letterlock_api.certificate import CertificateStatus
from letterlock_api.destinationcontrol import DestinationControlStatus
from letterlock_api.listener import ListenerStatus
from letterlock_api.mailgateway import MailGatewayStatus
from letterlock_api.snapshot import Snapshot

AnyStatus = CertificateStatus | ListenerStatus | DestinationControlStatus | CAListStatus | MailGatewayStatus


@dataclass(frozen=True)
class Issue:
    """Make a key (or keep the one that is there) and a self-signed certificate, and store both in one Secret.

    Keys are not derived objects: the Secret is created by POST (`replaces` empty) or replaced by PUT with the
    resourceVersion in `replaces`; a conflict means that somebody else was faster: observe again.
    """

    secret: str
    owner: str
    """`Kind/name` of the resource that owns the Secret."""
    subject: Mapping[str, str]
    """By X.520 name as in `Subject`: common_name, organization, …"""
    dns_names: tuple[str, ...]
    days: int
    algorithm: Literal["RSA", "ECDSA"]
    size: int
    replaces: str = ""
    keep_key: bool = False
    """Sign again with the key that is in the Secret (renewal)."""
    not_after_cap: datetime | None = None
    inputs: str = ""
    """Hash of what the certificate was made from; kept in the Secret, so that a changed spec is noticed."""


@dataclass(frozen=True)
class IssueInternal:
    """Make the internal CA of a gateway and the members' identity towards the operator, in Secret `secret`."""

    gateway: str
    secret: str
    replaces: str = ""


@dataclass(frozen=True)
class Ensure:
    """Create this custom resource where it is missing (the system CA list)."""

    kind: str
    name: str
    spec: Mapping[str, object]


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event on one of our resources."""

    kind: str
    name: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Mount:
    """What one gateway's members shall have mounted."""

    snapshot: Snapshot
    tls_files: Mapping[str, bytes]
    """Private keys with their chains: Secrets."""
    ca_files: Mapping[str, bytes]
    """CA certificates: ConfigMaps."""


@dataclass(frozen=True)
class Plan:
    """All that shall be done for one namespace."""

    mounts: Mapping[str, Mount] = field(default_factory=dict[str, Mount])
    """By gateway. Absent: nothing complete could be decided, and what is mounted stays."""
    issues: tuple[Issue, ...] = ()
    internal: tuple[IssueInternal, ...] = ()
    ensures: tuple[Ensure, ...] = ()
    statuses: Mapping[tuple[str, str], AnyStatus] = field(default_factory=dict[tuple[str, str], AnyStatus])
    """By (kind, name): the whole status that shall stand."""
    events: tuple[Event, ...] = ()
    wake: datetime | None = None
    """When to decide again even if nothing happens (a renewal)."""
