"""DestinationControl: how mail to certain domains is delivered: TLS, next hops, limits."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from letterlock_api.base import Lenient, Model
from letterlock_api.conditions import Condition
from letterlock_api.references import GatewayReference, Reference
from letterlock_api.resource import Resource
from letterlock_api.values import (
    Ciphers,
    DestinationDomain,
    DomainName,
    Duration,
    Host,
    ObjectName,
    Port,
    Time,
)

TLSMode = Literal[
    "Default",
    "No",
    "Preferred",
    "Required",
    "PreferredVerify",
    "RequiredVerify",
    "RequiredVerifyHostedDomains",
]
TLSVersion = Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]


def default_min_version(mode: str) -> TLSVersion:
    """The lowest version that counts where none is set: TLS 1.2 where certificates are verified, else any."""
    return "TLSv1.2" if "Verify" in mode else "TLSv1"


class DeliveryTLS(Model):
    """TLS policy of a destination."""

    mode: TLSMode = "Default"
    """How mail to these domains is protected.

    Default: as the entry `*` says. No: clear text. Preferred: TLS if it can be had, unchecked.
    Required: TLS or nothing, unchecked. PreferredVerify: checked and recorded.
    RequiredVerify: verified or not delivered. RequiredVerifyHostedDomains: the same, and names of the hosting
    provider count too.
    """
    names: Annotated[list[DomainName], Field(max_length=63)] = Field(default_factory=list[str])
    """Reference names that count instead of the mode's."""
    ca_list_refs: Annotated[list[Reference], Field(max_length=16)] = Field(default_factory=list[Reference])
    """Only these CA lists count for these domains; none: all enabled lists of scope Global."""
    min_version: TLSVersion | None = None
    """Lowest protocol version. TLSv1 for Preferred and Required, TLSv1.2 where verified, unless set."""
    ciphers: Ciphers | None = None
    """OpenSSL cipher list for TLS 1.2 and below."""


class SecretReference(Model):
    """A Secret with keys `username` and `password`."""

    name: ObjectName
    """Name of the Secret."""


class RouteAuth(Model):
    """SMTP AUTH at a next hop."""

    secret_ref: SecretReference
    """Secret with `username` and `password`."""


class Route(Model):
    """One next hop."""

    host: Host
    """Host name or address."""
    port: Port = 25
    """Port."""
    priority: Annotated[int, Field(ge=0, le=65535)] = 0
    """Lower is tried first; hosts of one priority are taken in turn."""
    implicit_tls: bool = False
    """TLS from the first byte (port 465), instead of STARTTLS."""
    auth: RouteAuth | None = None
    """Sign in at this host; only over verified TLS."""


class RecipientRate(Model):
    """So many recipients per period."""

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    """Recipients."""
    period: Duration = "60m"
    """Period, a Go-style duration."""


class DestinationLimits(Model):
    """Limits towards a destination, per member."""

    connections: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Connections at a time; 500 unless set."""
    messages_per_connection: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Messages per connection; 50 unless set."""
    recipients: RecipientRate | None = None
    """Recipients per period; no limit unless set."""


class DestinationControlSpec(Model):
    """How mail to these domains is delivered. What is left out comes from the next less specific entry."""

    gateway_ref: GatewayReference = Field(default_factory=GatewayReference)
    """The MailGateway that it is for."""
    domains: Annotated[list[DestinationDomain], Field(min_length=1, max_length=256)] = Field(
        json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    """Recipient domains; `.example.com` is everything below it; `*` alone is the default entry."""
    tls: DeliveryTLS = Field(default_factory=DeliveryTLS)
    """TLS policy."""
    routing: Literal["Inherit", "MX", "Routes"] | None = None
    """Inherit, MX or Routes; Routes where routes are given, else Inherit."""
    routes: Annotated[list[Route], Field(max_length=63)] = Field(
        default_factory=list[Route],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["host", "port"]},
    )
    """Next hops, instead of MX."""
    limits: DestinationLimits = Field(default_factory=DestinationLimits)
    """Limits, per member."""


DeliveryResult = Literal["Delivered", "Failed"]
NameSource = Literal["Recipient", "Route", "MX", "Reverse", "Explicit"]


class LastTLS(Lenient):
    """The last delivery's TLS, as the member saw it on the wire."""

    time: Time
    """When."""
    member: str
    """Which member."""
    domain: str
    """Recipient domain."""
    host: str = ""
    """Next hop's name."""
    address: str = ""
    """Its address."""
    result: str
    """Delivered, or why not.

    TLSNotOffered, TLSRefused, HandshakeFailed, NotTrusted, NameMismatch, Expired or Unreachable.
    """
    protocol: str | None = None
    """TLS version; absent: clear text."""
    cipher: str | None = None
    """Cipher suite."""
    verified: bool = False
    """Whether chain and name were verified."""
    matched_name: str | None = None
    """The reference name that matched."""
    name_source: NameSource | None = None
    """Where that name came from."""
    reason: str = ""
    """For people: what happened."""


class FailingDomain(Lenient):
    """A domain that mail cannot be delivered to now."""

    domain: str
    """Recipient domain."""
    reason: str
    """Why, in one word, as in the condition `Delivering`."""
    since: Time
    """Since when."""


class DestinationControlStatus(Lenient):
    """What happens to mail for these domains."""

    observed_generation: int | None = None
    """The generation that this status speaks of."""
    domain_summary: str | None = None
    """The domains, shortened: `a.example +3`."""
    tls_mode: str | None = None
    """TLS mode in force."""
    last_tls: LastTLS | None = None
    """The last delivery's TLS."""
    failing: list[FailingDomain] | None = None
    """Domains that fail now (at most 10)."""
    conditions: list[Condition] = Field(
        default_factory=list[Condition],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Conditions."""


class DestinationControl(Resource):
    """How mail to certain domains is delivered: TLS policy, next hops, limits."""

    PLURAL: ClassVar[str] = "destinationcontrols"
    SHORT: ClassVar[str] = "destctl"

    kind: Literal["DestinationControl"] = "DestinationControl"
    spec: DestinationControlSpec
    """How mail to these domains is delivered."""
    status: DestinationControlStatus = Field(default_factory=DestinationControlStatus)
    """What happens to it."""
