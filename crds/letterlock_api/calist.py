"""CAList: certificate authorities that peers are verified against."""

from typing import ClassVar, Literal

from pydantic import Field

from letterlock_api.base import Lenient, Model
from letterlock_api.conditions import Condition
from letterlock_api.references import GatewayReference, PEMSource
from letterlock_api.resource import Resource
from letterlock_api.values import PEM, DataKey, ObjectName, Time

SYSTEM_LIST = "system"


class CAListExport(Model):
    """A ConfigMap with the `.txt` export, kept current."""

    config_map_name: ObjectName
    """The ConfigMap to write."""
    file_name: DataKey
    """Name of the file: the key in that ConfigMap."""


class CAListSpec(Model):
    """Which authorities, and where they count."""

    gateway_ref: GatewayReference | None = None
    """The MailGateway that it serves; unset: every gateway of its namespace."""
    type: Literal["Custom", "System"] = "Custom"
    """Custom; System only for the list named `system`, which the operator keeps."""
    enabled: bool = True
    """Whether its CAs are trusted."""
    scope: Literal["Global", "Referenced"] = "Global"
    """Global: counts for every peer. Referenced: only where a resource names it."""
    certificates: PEM | None = None
    """CA certificates, PEM (small lists; client-side apply ends at 256 KiB)."""
    certificates_from: PEMSource | None = None
    """CA certificates, from a ConfigMap or Secret."""
    export: CAListExport | None = None
    """Keep a ConfigMap with the list as a text file."""


class RejectedCertificate(Lenient):
    """One certificate of the list that does not count, and why."""

    subject: str = ""
    """Its subject, RFC 4514; empty where it is no certificate at all."""
    fingerprint: str = ""
    """sha256 of it, lower-case hex."""
    reason: str
    """Why it does not count."""


class ExpiringCertificate(Lenient):
    """The certificate of the list that ends next."""

    subject: str
    """Its subject, RFC 4514."""
    not_after: Time
    """Its end of validity."""


class CAListStatus(Lenient):
    """What of the list counts."""

    observed_generation: int | None = None
    """The generation that this status speaks of."""
    count: int | None = None
    """Certificates that count."""
    pinned: int | None = None
    """Self-signed end-entity certificates among them: each is trusted for itself only."""
    rejected: list[RejectedCertificate] | None = None
    """What was left out, and why (at most 50)."""
    expiring_next: ExpiringCertificate | None = None
    """What ends next."""
    conditions: list[Condition] = Field(
        default_factory=list[Condition],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Conditions."""


class CAList(Resource):
    """Certificate authorities that peers' certificates are verified against."""

    PLURAL: ClassVar[str] = "calists"
    SHORT: ClassVar[str] = "cal"

    kind: Literal["CAList"] = "CAList"
    spec: CAListSpec
    """Which authorities, and where they count."""
    status: CAListStatus = Field(default_factory=CAListStatus)
    """What of the list counts."""
