"""What was decided: plain, frozen values that `act` carries out, on a cluster or on a folder; twice does no harm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from letterlock_api.calist import CAListStatus
from letterlock_api.certificate import CertificateStatus, Level
from letterlock_api.destinationcontrol import DestinationControlStatus
from letterlock_api.listener import ListenerStatus
from letterlock_api.mailgateway import MailGatewayStatus
from letterlock_api.snapshot import Snapshot

AnyStatus = CertificateStatus | ListenerStatus | DestinationControlStatus | CAListStatus | MailGatewayStatus


@dataclass(frozen=True)
class Issue:
    """Make a key (or keep the one that is there), a self-signed certificate and a request for a CA.

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
    inputs: str = ""
    """Hash of what the certificate was made from; kept in the Secret, so that a changed spec is noticed."""
    store: Literal["present", "next", "request", "next-request"] = "present"
    """What becomes of it: the certificate in use; the prepared next one; only a new request, for the key in
    use or for a next key: the certificate in use stays."""


@dataclass(frozen=True)
class Install:
    """Put a certificate that was signed elsewhere, or the prepared next one, into the Secret with its key."""

    secret: str
    owner: str
    chain: bytes
    """Certificate and intermediates, PEM, in the order in which they are served."""
    replaces: str
    from_next: bool = False
    """Whether it belongs to the prepared next key or request, which takes the place of the present one."""
    prepare: bool = False
    """Keep it as the prepared next one instead of using it."""


@dataclass(frozen=True)
class Import:
    """Open a PKCS#12 file and store its key and chain in Secret `secret`, as the only source from then on."""

    secret: str
    owner: str
    file: bytes
    passphrase: bytes | None
    inputs: str
    """Hash of file and passphrase."""
    level: Level = "Machine"
    """Of the Certificate: not every file serves all members."""
    replaces: str = ""

    @property
    def attempt(self) -> str:
        """What a refusal is remembered by: the same again has the same end."""
        return f"{self.level}:{self.inputs}"


@dataclass(frozen=True)
class ExportedFile:
    """One PKCS#12 file to make."""

    name: str
    friendly_name: str
    pem: bytes
    """Key, certificate, intermediates."""
    passphrase: bytes


@dataclass(frozen=True)
class Export:
    """Write PKCS#12 files into Secret `secret`, which others read."""

    secret: str
    owner: str
    files: tuple[ExportedFile, ...]
    inputs: str
    """Hash of all that goes in; kept as an annotation of the Secret."""
    replaces: str = ""


@dataclass(frozen=True)
class Retire:
    """Delete a Secret that was made here and has no use any more."""

    secret: str
    resource_version: str
    reason: str
    """For people: why."""


@dataclass(frozen=True)
class Request:
    """Ask a Kubernetes signer for a certificate (certificates.k8s.io)."""

    name: str
    """Of the CertificateSigningRequest: a function of what is asked, so that nobody asks twice."""
    certificate: str
    member: str
    signer: str
    request: bytes
    """PKCS#10, PEM."""
    usages: tuple[str, ...]
    seconds: int
    """Wanted lifetime."""
    attempt: int


@dataclass(frozen=True)
class IssueInternal:
    """Make the internal CA of a gateway and the members' identity towards the operator, in Secret `secret`."""

    gateway: str
    secret: str
    replaces: str = ""


type SecretOrder = Issue | Install | Import | Export


@dataclass(frozen=True)
class Ensure:
    """Create this custom resource where it is missing (the system CA list)."""

    kind: str
    name: str
    spec: Mapping[str, object]


@dataclass(frozen=True)
class TextFile:
    """A ConfigMap with one file, kept current: the export of a CA list."""

    name: str
    owner: str
    """`Kind/name` of the resource that it goes with."""
    data: Mapping[str, str]
    """By file name; empty: nobody asks for it any more."""


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
    """Private keys with their chains, and credentials for next hops: Secrets."""
    ca_files: Mapping[str, bytes]
    """CA certificates: ConfigMaps."""
    shards: Mapping[str, int]
    """By file: the number of the Secret or ConfigMap that it lies in, where there are several."""
    hash: str
    """Of the snapshot: its identity."""
    encoded: bytes
    """The snapshot as `snapshot.json`: large ones take long to encode, so it is done once, and not by `act`."""
    packed: bytes
    """The same as it lies in an object, which ends at 1 MiB: compressed where it is large."""


@dataclass(frozen=True)
class Plan:
    """All that shall be done for one namespace."""

    mounts: Mapping[str, Mount] = field(default_factory=dict[str, Mount])
    """By gateway. Absent: nothing complete could be decided, and what is mounted stays."""
    issues: tuple[SecretOrder, ...] = ()
    """Secrets with keys to write."""
    retired: tuple[Retire, ...] = ()
    requests: tuple[Request, ...] = ()
    internal: tuple[IssueInternal, ...] = ()
    ensures: tuple[Ensure, ...] = ()
    texts: tuple[TextFile, ...] = ()
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    """By gateway: members that its StatefulSet shall have."""
    statuses: Mapping[tuple[str, str], AnyStatus] = field(default_factory=dict[tuple[str, str], AnyStatus])
    """By (kind, name): the whole status that shall stand."""
    events: tuple[Event, ...] = ()
    wake: datetime | None = None
    """When to decide again even if nothing happens (a renewal)."""
