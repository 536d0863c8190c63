"""MailGateway: one gateway of one or more members, and what holds for it as a whole."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from letterlock_api.base import Lenient, Model
from letterlock_api.conditions import Condition
from letterlock_api.listener import ClientCertificates
from letterlock_api.pods import PodTemplate, Resources
from letterlock_api.references import KeyReference, Reference
from letterlock_api.resource import Resource
from letterlock_api.values import (
    DNSLabel,
    Duration,
    HostnameTemplate,
    HostPort,
    IPAddress,
    MailAddress,
    ObjectName,
    Port,
    Shape,
    Size,
)

Quantity = Annotated[
    str,
    StringConstraints(max_length=32),
    Shape.matching(r"[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti)?", "write a quantity, as in 10Gi"),
]


class Retry(Model):
    """When a deferred message is tried again."""

    initial: Duration = "60s"
    """First retry after this time; it doubles from there."""
    max: Duration = "1h"
    """Longest time between tries."""
    give_up_after: Duration = "72h"
    """Age at which a message bounces."""
    attempts: Annotated[int, Field(ge=1, le=10000)] = 100
    """Tries after which a message bounces."""


class Bounce(Model):
    """Bounce messages."""

    from_: Annotated[MailAddress | None, Field(alias="from")] = None
    """Address in the From header; MAILER-DAEMON at the gateway's host name unless set."""
    delay_notice: Duration = "4h"
    """Age at which the sender is told of a delay."""
    max_size: Size = 51200
    """Bytes of the original that a bounce may carry."""


class Delivery(Model):
    """What holds for all outgoing mail."""

    certificate_ref: Reference | None = None
    """The certificate for all outgoing TLS, presented when a peer asks; none: no client certificate."""
    tls_alert: Literal["Enabled", "Disabled"] = "Disabled"
    """Alert when a delivery fails because of required TLS: at most once per member, domain and hour.

    Recipients are in `alerts`. Kubernetes Event, log and metric come in any case.
    """
    retry: Retry = Field(default_factory=Retry)
    """When a deferred message is tried again."""
    bounce: Bounce = Field(default_factory=Bounce)
    """Bounce messages."""
    tracking_retention: Duration = "168h"
    """How long messages can be tracked after they were delivered, bounced or deleted."""
    resolvers: Annotated[list[HostPort], Field(max_length=8)] = Field(default_factory=list[str])
    """DNS servers (`host:port`) for MX, reverse look-ups and MX hosts; none: the system's."""
    address_family: Literal["Any", "PreferIPv4", "PreferIPv6", "IPv4", "IPv6"] = "Any"
    """Which addresses of a host are used."""


Severity = Literal["Critical", "Warning", "Info"]
AlertType = Literal["System", "Delivery"]


class AlertRecipient(Model):
    """Who gets which alerts."""

    address: MailAddress
    """Mail address."""
    severities: Annotated[list[Severity], Field(min_length=1, max_length=3)] = Field(
        default_factory=lambda: ["Critical", "Warning", "Info"]
    )
    """Severities. Failures of required TLS, and what ends soon, are Warning; what has expired is Critical."""
    types: Annotated[list[AlertType], Field(min_length=1, max_length=2)] = Field(
        default_factory=lambda: ["System", "Delivery"]
    )
    """Types. All alerts that there are now are of type System."""


class Alerts(Model):
    """Alert messages."""

    from_: Annotated[MailAddress | None, Field(alias="from")] = None
    """Sender; alerts at the gateway's host name unless set."""
    recipients: Annotated[list[AlertRecipient], Field(max_length=63)] = Field(
        default_factory=list[AlertRecipient]
    )
    """Who gets them."""


class LDAPProfile(Model):
    """A directory."""

    name: DNSLabel
    """Name that listeners use."""
    servers: Annotated[list[HostPort], Field(min_length=1, max_length=8)]
    """Servers, `host` or `host:port`, tried in order."""
    tls: Literal["LDAPS", "StartTLS", "None"] = "LDAPS"
    """TLS towards the directory."""
    base_dn: Annotated[str, StringConstraints(max_length=512, min_length=1)]
    """Base of the search."""
    bind_dn: Annotated[str, StringConstraints(max_length=512, min_length=1)] | None = None
    """Who binds; anonymous unless set."""
    bind_password_secret_key_ref: KeyReference | None = None
    """The Secret key with the password; needs TLS."""
    certificate_ref: Reference | None = None
    """Our client certificate towards the directory."""


class HTTPS(Model):
    """The HTTPS management service."""

    port: Port = 8443
    """Port. In pods ports below 1024 are bound at 10000 + port behind the Service."""
    address: IPAddress | None = None
    """Address to bind; all unless set."""
    certificate_ref: Reference | None = None
    """Certificate; none: the demo certificate."""


class Management(Model):
    """Management over HTTPS."""

    https: HTTPS | None = None
    """The service; absent: none."""
    users_secret_ref: Reference | None = None
    """Secret with an `htpasswd` key (bcrypt): who may sign in. Where nobody may, nothing is shown."""
    client_certificates: ClientCertificates | None = None
    """Client certificates that sign their holders in; absent: nobody is asked for one. Needs names or fingerprints."""


class Storage(Model):
    """Each member's spool volume."""

    size: Quantity = "1Gi"
    """Size."""
    storage_class_name: ObjectName | None = None
    """Storage class; the cluster's default unless set."""


class MailGatewaySpec(Model):
    """What holds for the gateway as a whole."""

    replicas: Annotated[int, Field(ge=0, le=64)] = 1
    """Number of members."""
    hostname: HostnameTemplate | None = None
    """Name in greeting, EHLO and Received; the member's own name unless set.

    `{member}` and `{ordinal}` are replaced per member.
    """
    postmaster: MailAddress | None = None
    """Where mail to the bare `postmaster` goes."""
    delivery: Delivery = Field(default_factory=Delivery)
    """Outgoing mail."""
    max_hops: Annotated[int, Field(ge=1, le=100)] = 25
    """Received headers at which a message is taken for a loop."""
    alerts: Alerts = Field(default_factory=Alerts)
    """Alert messages: of certificates and CAs that are about to end, and of what delivery.tlsAlert asks for."""
    ldap: Annotated[list[LDAPProfile], Field(max_length=16)] = Field(
        default_factory=list[LDAPProfile],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Directories."""
    management: Management = Field(default_factory=Management)
    """Management over HTTPS."""
    storage: Storage = Field(default_factory=Storage)
    """Each member's spool volume; cannot change later."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """Image of the members; the operator's own unless set."""
    resources: Resources = Field(default_factory=dict[str, Any])
    """Resource requests and limits of the members."""
    pod_template: PodTemplate = Field(default_factory=dict[str, Any])
    """Metadata and scheduling of the members' pods."""


class GatewayMember(Lenient):
    """One member."""

    name: str
    """The member."""
    snapshot: str | None = None
    """Hash of the snapshot that it runs."""
    version: str | None = None
    """Release of Letterlock that it runs."""
    queue: int | None = None
    """Recipients not yet delivered or bounced."""
    restarts: int | None = None
    """How often its container was started again in its pod, by its kubelet's word; left out where it never was."""
    problems: list[str] = Field(default_factory=list[str])
    """What is wrong, for people."""


class MailGatewayStatus(Lenient):
    """What the gateway does."""

    observed_generation: int | None = None
    """The generation that this status speaks of."""
    replicas: int | None = None
    """Members that exist."""
    ready_replicas: int | None = None
    """Members that are ready."""
    ready: str | None = None
    """`2/2`, for `kubectl get`."""
    selector: str | None = None
    """Label selector of the members' pods, for autoscalers."""
    snapshot: str | None = None
    """Hash of the current snapshot."""
    members: list[GatewayMember] | None = Field(
        default=None,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Per member."""
    conditions: list[Condition] = Field(
        default_factory=list[Condition],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Conditions."""


class MailGateway(Resource):
    """A mail gateway of one or more members, and what holds for it as a whole."""

    PLURAL: ClassVar[str] = "mailgateways"
    SHORT: ClassVar[str] = "mgw"

    kind: Literal["MailGateway"] = "MailGateway"
    spec: MailGatewaySpec = Field(default_factory=MailGatewaySpec)
    """What holds for the gateway as a whole."""
    status: MailGatewayStatus = Field(default_factory=MailGatewayStatus)
    """What the gateway does."""
