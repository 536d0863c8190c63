"""Listener: where mail comes in, from whom, under which TLS policy."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from letterlock_api.base import Lenient, Model
from letterlock_api.conditions import Condition
from letterlock_api.destinationcontrol import TLSVersion
from letterlock_api.references import GatewayReference, Reference
from letterlock_api.resource import Resource
from letterlock_api.values import (
    AddressPattern,
    Ciphers,
    Client,
    DNSLabel,
    DomainName,
    Fingerprint,
    IPAddress,
    ListedDomainName,
    Network,
    Port,
    Size,
    Text,
    Time,
)

Behavior = Literal["Accept", "Relay", "Reject", "TCPRefuse"]
ReceptionTLSMode = Literal["No", "Preferred", "Required"]
Limit = Annotated[int, Field(ge=1, le=100000)]


class ClientCertificates(Model):
    """Which client certificates count."""

    ca_list_refs: Annotated[list[Reference], Field(max_length=16)] = Field(default_factory=list[Reference])
    """CA lists they must chain to; none: all enabled lists of scope Global."""
    names: Annotated[list[ListedDomainName], Field(max_length=63)] = Field(default_factory=list[str])
    """Names, one of which the certificate must hold."""
    fingerprints: Annotated[list[Fingerprint], Field(max_length=63)] = Field(default_factory=list[str])
    """sha256 fingerprints, lower-case hex, one of which must be the certificate's."""


class ReceptionTLS(Model):
    """TLS of a mail-flow policy. What is left out comes from the default policy."""

    mode: ReceptionTLSMode | None = None
    """No: STARTTLS is not offered. Preferred: offered. Required: nothing is taken in before STARTTLS.

    Built in: No.
    """
    min_version: TLSVersion | None = None
    """Lowest protocol version; TLSv1.2 unless set."""
    ciphers: Ciphers | None = None
    """OpenSSL cipher list for TLS 1.2 and below."""
    client_certificate: Literal["None", "Optional", "Required"] | None = None
    """Whether clients are asked for a certificate, and must show a valid one. Built in: None.

    It is asked for within TLS: where mode is Preferred, clients in clear text show none.
    """
    client_certificates: ClientCertificates | None = None
    """Which client certificates count."""
    required_for_senders: Annotated[list[AddressPattern], Field(max_length=63)] = Field(
        default_factory=list[str]
    )
    """Envelope senders (`user@domain`, `domain`, `.domain`) that must use TLS where it is only offered."""


class PolicyFields(Model):
    """What a mail-flow policy says."""

    behavior: Behavior | None = None
    """Accept: mail for the recipients that the listener takes. Relay: mail for anyone.

    Reject: a 5xx greeting. TCPRefuse: no connection.
    """
    tls: ReceptionTLS = Field(default_factory=ReceptionTLS)
    """TLS policy."""
    max_message_size: Size | None = None
    """Bytes, or a quantity such as 10Mi. Built in: 25Mi."""
    max_messages_per_connection: Limit | None = None
    """Built in: 100."""
    max_recipients_per_message: Limit | None = None
    """Built in: 100 (RFC 5321 section 4.5.3.1.8 asks for at least that)."""
    max_connections_per_host: Limit | None = None
    """Built in: 50."""
    max_recipients_per_hour: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Recipients per hour and host; no limit unless set."""
    banner: Text | None = None
    """Text of the 220 greeting, after the host name."""
    reject_text: Text | None = None
    """Text of a Reject greeting."""


class MailFlowPolicy(PolicyFields):
    """A named mail-flow policy."""

    name: DNSLabel
    """Name that sender groups use."""


class SenderGroup(Model):
    """Clients, and the policy they get. The first group that matches wins."""

    name: DNSLabel
    """Name, for the log."""
    senders: Annotated[
        list[Client],
        Field(min_length=1, max_length=256),
    ]
    """Clients.

    IPv4 or IPv6 address, CIDR, range (`10.0.0.1-10.0.0.9`), partial IPv4 (`10.1.`), host name, `.domain`,
    or `ALL`.
    """
    policy: DNSLabel
    """Name of the mail-flow policy."""


class RecipientEntry(Model):
    """One entry of the recipient access table. The first that matches wins; everything else is rejected."""

    match: Annotated[list[AddressPattern], Field(min_length=1, max_length=256)]
    """`user@domain`, `domain`, `.domain` or `user@`."""
    action: Literal["Accept", "Reject"] = "Accept"
    """Accept or Reject."""
    text: Text | None = None
    """Text of the rejection."""


class DomainMapping(Model):
    """A recipient domain that is rewritten."""

    from_: Annotated[DomainName, Field(alias="from")]
    """Recipient domain as it comes in."""
    to: DomainName
    """Recipient domain that it becomes."""


class ProxyProtocol(Model):
    """Load balancers that speak the PROXY protocol."""

    from_: Annotated[
        list[Network],
        Field(alias="from", min_length=1, max_length=63),
    ]
    """Addresses and CIDRs of the load balancers, as the pod sees them."""


class AcceptQuery(Model):
    """Recipients that a directory knows."""

    ldap: DNSLabel
    """Name of an entry of the MailGateway's `ldap`."""
    filter: Annotated[str, StringConstraints(min_length=3, max_length=512)] = "(mail={a})"
    """LDAP filter with {a} for the address, {u} for the user part, {d} for the domain."""


class ListenerService(Model):
    """The Service in front of the listener."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Type of the Service."""
    annotations: dict[str, Annotated[str, StringConstraints(max_length=1024)]] = Field(
        default_factory=dict, max_length=32
    )
    """Annotations of the Service."""
    external_traffic_policy: Literal["Local", "Cluster"] | None = None
    """Local unless set (NodePort and LoadBalancer). Cluster hides the clients' addresses."""


class ListenerSpec(Model):
    """Where mail comes in."""

    gateway_ref: GatewayReference = Field(default_factory=GatewayReference)
    """The MailGateway that it belongs to."""
    type: Literal["Public", "Private"] = "Public"
    """Public: mail from anywhere for listed recipients. Private: mail of the listed senders for anyone."""
    protocol: Literal["SMTP", "SMTPS"] = "SMTP"
    """SMTP, or SMTPS: TLS from the first byte."""
    address: IPAddress | None = None
    """Address to bind; all addresses of both families unless set. In pods only a wildcard can be bound."""
    port: Port = 25
    """Port."""
    certificate_refs: Annotated[list[Reference], Field(max_length=16)] = Field(
        default_factory=list[Reference], json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Certificates; the first is the default, the others are chosen by SNI. None: the demo certificate."""
    default_domain: DomainName | None = None
    """Domain that is added to addresses without one."""
    domain_map: Annotated[list[DomainMapping], Field(max_length=256)] = Field(
        default_factory=list[DomainMapping]
    )
    """Recipient domains that are rewritten."""
    max_concurrency: Annotated[int, Field(ge=1, le=100000)] = 1000
    """Connections at a time, per member."""
    tcp_queue: Annotated[int, Field(ge=1, le=65535)] = 50
    """Connections that wait to be accepted (listen backlog)."""
    default_policy: PolicyFields = Field(default_factory=PolicyFields)
    """Values that every mail-flow policy falls back to."""
    mail_flow_policies: Annotated[list[MailFlowPolicy], Field(max_length=128)] = Field(
        default_factory=list[MailFlowPolicy],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Named policies for sender groups."""
    sender_groups: Annotated[list[SenderGroup], Field(max_length=128)] = Field(
        default_factory=list[SenderGroup], json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Host access table, in order; the first match wins."""
    recipients: Annotated[list[RecipientEntry], Field(max_length=256)] = Field(
        default_factory=list[RecipientEntry], json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Recipient access table (Public), in order; what matches nothing is rejected."""
    proxy_protocol: ProxyProtocol | None = None
    """Load balancers that must speak the PROXY protocol."""
    accept_query: AcceptQuery | None = None
    """Take only recipients that a directory knows."""
    service: ListenerService = Field(default_factory=ListenerService)
    """The Service in front of it."""


class ListenerMember(Lenient):
    """One member's side of the listener."""

    name: str
    """The member."""
    listening: bool
    """Whether it takes connections under the current configuration."""
    problem: str | None = None
    """Why not, for people."""


class ListenerStatus(Lenient):
    """What the listener does."""

    observed_generation: int | None = None
    """The generation that this status speaks of."""
    tls: Literal["No", "Preferred", "Required", "Mixed"] | None = None
    """TLS setting in force; Mixed where policies differ."""
    certificate: str | None = None
    """The certificate that is served by default."""
    certificate_not_after: Time | None = None
    """Its end of validity."""
    domain_map_summary: str | None = None
    """The domain map, shortened, for `kubectl get -o wide`."""
    members: list[ListenerMember] | None = Field(
        default=None,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Per member."""
    conditions: list[Condition] = Field(
        default_factory=list[Condition],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Conditions."""


class Listener(Resource):
    """Where mail comes in: port, certificates, host access and TLS policy."""

    PLURAL: ClassVar[str] = "listeners"
    SHORT: ClassVar[str] = "lsn"

    kind: Literal["Listener"] = "Listener"
    spec: ListenerSpec = Field(default_factory=ListenerSpec)
    """Where mail comes in."""
    status: ListenerStatus = Field(default_factory=ListenerStatus)
    """What the listener does."""
