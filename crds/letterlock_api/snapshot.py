"""The snapshot: all that a member needs to run, decided as a whole and taken as a whole (operator → gateway).

Mounted as one directory: `snapshot.json`, and beside it the files it names, each name carrying the hash of
its content: `tls-<hash>.pem` (private key, certificate, intermediates in sending order), `ca-<hash>.pem`
(CA certificates), `auth-<hash>.json` (credentials for a next hop) and `users-<hash>.txt` (who may sign in to the
management pages, bcrypt). A member takes a snapshot only when all its
files are there and their contents have the hashes that their names say. Everything in here is resolved: policies
merged, inheritance applied, defaults filled in, names normalised (lower case, A-labels).
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import idna
from pydantic import Field

from letterlock_api.base import Lenient
from letterlock_api.destinationcontrol import TLSVersion
from letterlock_api.listener import Behavior, ReceptionTLSMode
from letterlock_api.mailgateway import AlertType, Severity

SNAPSHOT_FILE: Final = "snapshot.json"
FORMAT: Final = 1
_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
# Modes as members know them: `Default` has been resolved.
ResolvedTLSMode = Literal[
    "No", "Preferred", "Required", "PreferredVerify", "RequiredVerify", "RequiredVerifyHostedDomains"
]
# `{member}` in a file name stands for the member's name: machine-level certificates.
FileName = str


def content_hash(content: bytes) -> str:
    """sha256 of `content`, the first 32 hex digits (128 bits): what file names and digests carry."""
    return hashlib.sha256(content).hexdigest()[:32]


def tls_file_name(content: bytes) -> FileName:
    """Name of the file that holds a key with its certificate chain."""
    return f"tls-{content_hash(content)}.pem"


def ca_file_name(content: bytes) -> FileName:
    """Name of the file that holds CA certificates."""
    return f"ca-{content_hash(content)}.pem"


def users_file_name(content: bytes) -> FileName:
    """Name of the file that holds the users of the management pages. Their salts keep it from telling anything."""
    return f"users-{content_hash(content)}.txt"


def is_private(file: FileName) -> bool:
    """Whether the file's content is for Secrets only: keys, credentials for next hops, users' password hashes."""
    return file.startswith(("tls-", "auth-", "users-"))


class ServedCertificate(Lenient):
    """A certificate as members use it."""

    name: str
    """The Certificate resource; empty: the demo certificate."""
    file: FileName | None = None
    """The file for all members (Cluster level)."""
    files: dict[str, FileName] = Field(default_factory=dict)
    """Per member name (Machine level)."""
    demo: bool = False
    """Whether it is the built-in demo certificate."""
    names: list[str] = Field(default_factory=list)
    """Names in it, for SNI."""

    def file_for(self, member: str) -> FileName | None:
        """The file that `member` uses; None: there is none for it yet."""
        return self.file or self.files.get(member)


class TrustList(Lenient):
    """An enabled CA list."""

    file: FileName
    """CA certificates and pinned end-entity certificates, PEM."""
    is_global: bool = True
    """Whether it counts without being named."""


class ReceptionPolicy(Lenient):
    """A mail-flow policy with everything filled in."""

    name: str
    behavior: Behavior
    tls_mode: ReceptionTLSMode = "No"
    min_version: TLSVersion = "TLSv1.2"
    ciphers: str | None = None
    client_certificate: Literal["None", "Optional", "Required"] = "None"
    client_ca_lists: list[str] = Field(default_factory=list)
    """Names in `Snapshot.trust`; empty: all global ones."""
    client_names: list[str] = Field(default_factory=list)
    client_fingerprints: list[str] = Field(default_factory=list)
    required_for_senders: list[str] = Field(default_factory=list)
    max_message_size: int = 26214400
    max_messages_per_connection: int = 100
    max_recipients_per_message: int = 100
    max_connections_per_host: int = 50
    max_recipients_per_hour: int | None = None
    banner: str = ""
    reject_text: str = ""


class AccessGroup(Lenient):
    """One row of the host access table."""

    name: str
    senders: list[str]
    policy: str


class RecipientRule(Lenient):
    """One row of the recipient access table."""

    match: list[str]
    accept: bool
    text: str = ""


class RecipientQuery(Lenient):
    """Which recipients a directory knows."""

    directory: str
    """Name in `Snapshot.directories`."""
    filter: str
    """LDAP filter with {a} address, {u} user, {d} domain."""


class SnapshotDirectory(Lenient):
    """A directory (LDAP)."""

    name: str
    servers: list[str]
    """`host` or `host:port`, tried in order."""
    tls: Literal["LDAPS", "StartTLS", "None"]
    base_dn: str
    bind_file: FileName | None = None
    """Credentials: the bind DN as user name, and its password; None: bound by certificate, or not at all."""
    certificate: ServedCertificate | None = None
    """Ours, presented to it; None: none."""


class SnapshotListener(Lenient):
    """A listener."""

    name: str
    type: Literal["Public", "Private"]
    protocol: Literal["SMTP", "SMTPS"] = "SMTP"
    address: str = ""
    """Empty: all addresses of both families."""
    port: int
    certificates: list[ServedCertificate] = Field(default_factory=list[ServedCertificate])
    """The first is the default. Empty only if no policy offers TLS."""
    default_domain: str | None = None
    domain_map: dict[str, str] = Field(default_factory=dict)
    max_concurrency: int = 1000
    tcp_queue: int = 50
    policies: list[ReceptionPolicy]
    groups: list[AccessGroup]
    """Ends with a group whose senders are ALL, so that every client matches one."""
    recipients: list[RecipientRule] = Field(default_factory=list[RecipientRule])
    proxy_from: list[str] = Field(default_factory=list)
    query: RecipientQuery | None = None
    """None: recipients are not looked up."""


class NextHop(Lenient):
    """A next hop that an administrator wrote."""

    host: str
    port: int = 25
    priority: int = 0
    implicit_tls: bool = False
    auth_file: FileName | None = None
    """Credentials to sign in with; only over verified TLS."""


class Destination(Lenient):
    """Delivery policy of one resource's domains, inheritance applied."""

    resource: str
    """The DestinationControl; empty: the built-in default."""
    domains: list[str]
    """`a.example`, `.example` (all below), `*`. No two destinations share an entry."""
    tls_mode: ResolvedTLSMode = "Preferred"
    names: list[str] = Field(default_factory=list)
    """Explicit reference names; empty: the mode's."""
    ca_lists: list[str] = Field(default_factory=list)
    """Names in `Snapshot.trust`; empty: all global ones."""
    restricts_ca_lists: bool = False
    """True: only `ca_lists` count, even where none of them is enabled (then nothing is trusted)."""
    min_version: TLSVersion = "TLSv1"
    min_version_set: bool = False
    """Whether an entry says so; else it comes from the mode."""
    ciphers: str | None = None
    routes: list[NextHop] = Field(default_factory=list[NextHop])
    """Empty: MX look-up."""
    connections: int = 500
    messages_per_connection: int = 50
    recipients_count: int | None = None
    recipients_period: float = 3600.0
    """Seconds."""

    def encoded(self) -> str:
        """Its part of `snapshot.json`."""
        return _JSON.encode(self.model_dump(mode="json", by_alias=True, exclude_defaults=True))


class RetrySchedule(Lenient):
    """Seconds, all of them."""

    initial: float = 60.0
    max: float = 3600.0
    give_up_after: float = 259200.0
    attempts: int = 100


class SnapshotDelivery(Lenient):
    """What holds for all outgoing mail."""

    certificate: ServedCertificate | None = None
    tls_alert: bool = False
    retry: RetrySchedule = Field(default_factory=RetrySchedule)
    bounce_from: str | None = None
    delay_notice: float = 14400.0
    bounce_max_size: int = 51200
    tracking_retention: float = 604800.0
    """Seconds."""
    resolvers: list[str] = Field(default_factory=list)
    address_family: Literal["Any", "PreferIPv4", "PreferIPv6", "IPv4", "IPv6"] = "Any"


class SnapshotAlertRecipient(Lenient):
    """Who gets which alerts."""

    address: str
    severities: list[Severity]
    types: list[AlertType]


class SnapshotAlerts(Lenient):
    """Messages to administrators."""

    sender: str | None = None
    """Address in From; None: alerts at the member's host name."""
    recipients: list[SnapshotAlertRecipient] = Field(default_factory=list[SnapshotAlertRecipient])


class SnapshotManagement(Lenient):
    """The HTTPS management pages (H1)."""

    address: str = ""
    """Empty: all addresses of both families."""
    port: int
    certificate: ServedCertificate
    users_file: FileName | None = None
    """htpasswd lines (bcrypt); None: nobody signs in by password."""
    client_certificates: bool = False
    """Whether client certificates sign in; those that hold one of the names or fingerprints below."""
    client_ca_lists: list[str] = Field(default_factory=list)
    """Names in `Snapshot.trust`; empty: all global ones."""
    client_names: list[str] = Field(default_factory=list)
    client_fingerprints: list[str] = Field(default_factory=list)


class Drain(Lenient):
    """A member that is to go: it takes no mail in any more, and hands on what it has."""

    member: str
    order: int
    """Number of this order: the member's state says under which one it is empty (`MemberState.drained`)."""
    peers: list[str] = Field(default_factory=list)
    """Addresses of members that stay; none: it delivers what it has by itself."""


class SnapshotMember(Lenient):
    """A member of the gateway, for the others."""

    name: str
    host: str
    """Where it is asked: an address, or a name that pods of the namespace know."""


class Snapshot(Lenient):
    """All that a member needs."""

    format: Annotated[int, Field(ge=1)] = FORMAT
    gateway: str
    namespace: str = "default"
    hostname: str | None = None
    """Template with {member} and {ordinal}; None: the member's own name."""
    postmaster: str | None = None
    max_hops: int = 25
    listeners: list[SnapshotListener] = Field(default_factory=list[SnapshotListener])
    destinations: list[Destination] = Field(default_factory=list[Destination])
    """Always holds one for `*`."""
    delivery: SnapshotDelivery = Field(default_factory=SnapshotDelivery)
    alerts: SnapshotAlerts = Field(default_factory=SnapshotAlerts)
    directories: list[SnapshotDirectory] = Field(default_factory=list[SnapshotDirectory])
    management: SnapshotManagement | None = None
    """None: no HTTPS management."""
    trust: dict[str, TrustList] = Field(default_factory=dict)
    """Enabled CA lists by name."""
    drains: list[Drain] = Field(default_factory=list[Drain])
    """Members that are to go."""
    admits: list[str] | None = None
    """Members that may take mail in; a new one is named once it runs. None: all."""
    members: list[SnapshotMember] = Field(default_factory=list[SnapshotMember])
    """All members there should be, where their pages ask one another; empty: this one is alone, or has no pages."""
    files: list[FileName] = Field(default_factory=list)
    """Every file that this snapshot names."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Digest per resource, `Kind/name`, references included: what members report back."""

    def served(self) -> list[ServedCertificate]:
        """Every use of a certificate: of listeners, directories, the management pages, and outgoing mail."""
        found = [one for listener in self.listeners for one in listener.certificates]
        found += [one.certificate for one in self.directories if one.certificate is not None]
        found += [self.management.certificate] if self.management is not None else []
        return [*found, self.delivery.certificate] if self.delivery.certificate is not None else found

    def encode(self) -> bytes:
        """The bytes of `snapshot.json`: sorted keys, no defaults, so that equal snapshots are equal files."""
        return self.encode_with([one.encoded() for one in self.destinations])

    def encode_with(self, destinations: Sequence[str]) -> bytes:
        """The same, where `Destination.encoded` of each destination is at hand: most stay what they were."""
        rest = self.model_copy(update={"destinations": []})
        parts = {
            key: _JSON.encode(value)
            for key, value in rest.model_dump(mode="json", by_alias=True, exclude_defaults=True).items()
        }
        if destinations:
            parts["destinations"] = f"[{','.join(destinations)}]"
        return f"{{{','.join(f'"{key}":{parts[key]}' for key in sorted(parts))}}}".encode()

    def hash(self) -> str:
        """Identity of this snapshot."""
        return content_hash(self.encode())


def decode(content: bytes) -> Snapshot:
    """The snapshot in `content`. Raises ValueError (pydantic's ValidationError is one) where it is none."""
    snapshot = Snapshot.model_validate_json(content)
    if snapshot.format > FORMAT:
        raise ValueError(
            f"snapshot format {snapshot.format} is newer than this program knows ({FORMAT}): "
            "upgrade the members first"
        )
    return snapshot


def member_hostname(template: str | None, member: str) -> str:
    """The name that `member` goes by on the wire: the template with {member} and {ordinal} replaced, as A-labels.

    What IDNA does not take stays as it is; decisions say so before a member has it.
    """
    ordinal = member.rpartition("-")[2]
    name = (
        (template or member)
        .replace("{member}", member)
        .replace("{ordinal}", ordinal if ordinal.isdigit() else "0")
    )
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError:
        return name
