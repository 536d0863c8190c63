"""Certificate: a key and its certificate, made here, signed elsewhere, or brought along."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from letterlock_api.base import Lenient, Model
from letterlock_api.conditions import Condition
from letterlock_api.references import (
    GatewayReference,
    KeyReferenceTemplate,
    PEMSource,
    ReferenceTemplate,
)
from letterlock_api.resource import Resource
from letterlock_api.values import (
    CertificateName,
    ChainPEM,
    CommonName,
    DataKeyTemplate,
    Fingerprint,
    ObjectNameTemplate,
    Shape,
    Time,
)

# Upper bounds of X.520 (ub-common-name and so on).
SubjectText = Annotated[str, StringConstraints(min_length=1, max_length=64)]
PlaceText = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Country = Annotated[
    str,
    StringConstraints(min_length=2, max_length=2),
    Shape.matching("[A-Z]{2}", "write the two-letter ISO 3166 code in capitals, as in DE"),
]
SignerName = Annotated[
    str,
    StringConstraints(min_length=3, max_length=253),
    Shape.matching(
        "[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[-a-zA-Z0-9._]+", "write a signer name, as in example.com/mail"
    ),
]
Level = Literal["Machine", "Cluster"]


class Subject(Model):
    """The distinguished name."""

    common_name: CommonName | None = None
    """Common name, a fully qualified domain name.

    It is added to the subject alternative names when the certificate is made here.
    """
    organization: SubjectText | None = None
    """Organization, such as `Example Ltd`."""
    organizational_unit: SubjectText | None = None
    """Organizational unit, such as `Mail`."""
    locality: PlaceText | None = None
    """City."""
    state: PlaceText | None = None
    """State or province."""
    country: Country | None = None
    """Country, the two-letter ISO 3166 code in capitals, such as `DE`."""

    @property
    def given(self) -> dict[str, str]:
        """What of it is given, by field."""
        return {key: value for key, value in self.model_dump().items() if value}


class PrivateKey(Model):
    """The key to make."""

    algorithm: Literal["RSA", "ECDSA"] = "RSA"
    """RSA or ECDSA."""
    size: Literal[256, 384, 1024, 2048, 3072, 4096] | None = None
    """Bits. RSA: 1024, 2048 (default), 3072 or 4096; ECDSA: 256 (default) or 384.

    RSA 1024 is honoured and flagged WeakKey.
    """


class Renewal(Model):
    """How a certificate is replaced before it ends."""

    mode: Literal["Automatic", "Prepare", "Never"] = "Automatic"
    """Automatic; Prepare publishes the next certificate in `status.next` and waits for `activate`; Never."""
    before_days: Annotated[int, Field(ge=1, le=36500)] | None = None
    """Days before the end at which renewal starts; a third of the lifetime unless set."""
    rotate_key: bool = False
    """Make a new key at each renewal."""
    activate: Fingerprint | None = None
    """Fingerprint (sha256, lower-case hex) of the prepared certificate that shall be used from now on."""


class Signed(Model):
    """A certificate that a CA signed for the request in status."""

    member: Annotated[str, StringConstraints(max_length=63)] = ""
    """The gateway member whose request was signed (Machine level only)."""
    certificate: ChainPEM | None = None
    """The certificate, PEM; intermediates may follow it."""
    certificate_from: PEMSource | None = None
    """The certificate, from a ConfigMap or Secret."""
    intermediates: ChainPEM | None = None
    """Intermediate certificates, PEM, in any order."""
    intermediates_from: PEMSource | None = None
    """Intermediate certificates, from a ConfigMap or Secret."""


class PKCS12Import(Model):
    """A PKCS#12 file to import."""

    secret_key_ref: KeyReferenceTemplate
    """The Secret key that holds the file."""
    passphrase_secret_key_ref: KeyReferenceTemplate | None = None
    """The Secret key that holds its passphrase."""


class PKCS12Export(Model):
    """A PKCS#12 file to keep current."""

    secret_name: ObjectNameTemplate
    """The Secret to write."""
    file_name: DataKeyTemplate
    """Name of the file: the key in that Secret."""
    passphrase_secret_key_ref: KeyReferenceTemplate
    """The Secret key that holds the passphrase."""


class Export(Model):
    """What to export."""

    pkcs12: PKCS12Export | None = None
    """Keep a Secret with the certificate, its chain and its key as a PKCS#12 file."""


class CertificateSpec(Model):
    """What the certificate shall be. Without `pkcs12`, `secretRef` and `signerName` it is self-signed."""

    gateway_ref: GatewayReference = Field(default_factory=GatewayReference)
    """The MailGateway that uses it."""
    level: Level | None = None
    """Machine: one certificate and key per member. Cluster: one for all members.

    Cluster needs a wildcard or explicit dnsNames.
    Unset: Machine when made here, Cluster for secretRef and pkcs12.
    """
    subject: Subject = Field(default_factory=Subject)
    """The distinguished name."""
    dns_names: Annotated[list[CertificateName], Field(max_length=100)] = Field(
        default_factory=list[str], json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    """Subject alternative names."""
    days: Annotated[int, Field(ge=1, le=36500)] = 365
    """Days until it expires."""
    private_key: PrivateKey = Field(default_factory=PrivateKey)
    """The key to make."""
    renewal: Renewal = Field(default_factory=Renewal)
    """How it is replaced before it ends."""
    signed: Annotated[list[Signed], Field(max_length=64)] = Field(
        default_factory=list[Signed],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["member"]},
    )
    """CA-signed certificates for the requests in status."""
    pkcs12: PKCS12Import | None = None
    """Import from a PKCS#12 file."""
    secret_ref: ReferenceTemplate | None = None
    """A kubernetes.io/tls Secret that someone else (cert-manager, say) keeps."""
    signer_name: SignerName | None = None
    """Ask this Kubernetes signer through certificates.k8s.io."""
    export: Export | None = None
    """What to export."""

    @property
    def brought(self) -> bool:
        """Whether key and certificate come from elsewhere."""
        return self.secret_ref is not None or self.pkcs12 is not None

    @property
    def level_in_force(self) -> Level:
        """The level: Machine when made here, Cluster when brought along, unless set."""
        return self.level or ("Cluster" if self.brought else "Machine")


class NextCertificate(Lenient):
    """The prepared next certificate (`renewal.mode: Prepare`)."""

    certificate: str = ""
    """The certificate, PEM: give it to peers that hold the present one."""
    fingerprint: str = ""
    """sha256 of it, lower-case hex: what `spec.renewal.activate` takes."""
    not_before: Time | None = None
    """Start of validity."""
    not_after: Time | None = None
    """End of validity."""


class CertificateMember(Lenient):
    """One member's certificate (Machine level)."""

    name: str
    """The member."""
    fingerprint: str = ""
    """sha256 of its certificate, lower-case hex."""
    not_after: Time | None = None
    """End of validity."""
    request: str = ""
    """Certificate signing request for its key, PEM."""


class CertificateStatus(Lenient):
    """What the certificate is, as far as it was made or read."""

    observed_generation: int | None = None
    """The generation that this status speaks of."""
    level: Level | None = None
    """The level in force."""
    request: str | None = None
    """Certificate signing request for the key, PEM."""
    subject: str | None = None
    """Subject, RFC 4514."""
    issuer: str | None = None
    """Issuer, RFC 4514."""
    serial_number: str | None = None
    """Serial number, hexadecimal."""
    fingerprint: str | None = None
    """sha256 of the certificate, lower-case hex."""
    not_before: Time | None = None
    """Start of validity."""
    not_after: Time | None = None
    """End of validity."""
    expires: str | None = None
    """End of validity as text, for `kubectl get` (date columns cannot show the future)."""
    renewal_time: Time | None = None
    """When renewal starts."""
    next_attempt_time: Time | None = None
    """When issuing is tried again."""
    failed_attempts: int | None = None
    """How many signing requests in a row the signer refused."""
    dns_names: list[str] | None = None
    """Subject alternative names in the certificate."""
    common_name: str | None = None
    """Common name in the certificate."""
    key_algorithm: str | None = None
    """RSA or ECDSA."""
    key_size: int | None = None
    """Bits."""
    self_signed: bool | None = None
    """Whether its own key signed it."""
    intermediates: list[str] | None = None
    """Subjects of the intermediates that are served with it."""
    next: NextCertificate | None = None
    """The prepared next certificate."""
    members: list[CertificateMember] | None = Field(
        default=None,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Per member (Machine level)."""
    used_by: list[str] | None = None
    """What uses it, as Kind/name."""
    conditions: list[Condition] = Field(
        default_factory=list[Condition],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Conditions."""


class Certificate(Resource):
    """A key and its certificate for a mail gateway: made here, signed elsewhere, or brought along."""

    PLURAL: ClassVar[str] = "certificates"
    SHORT: ClassVar[str] = "mailcert"

    kind: Literal["Certificate"] = "Certificate"
    spec: CertificateSpec = Field(default_factory=CertificateSpec)
    """What the certificate shall be."""
    status: CertificateStatus = Field(default_factory=CertificateStatus)
    """What it is."""
