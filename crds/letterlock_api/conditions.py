"""Conditions (metav1.Condition), their types and reasons: words that scripts rest on: they never change."""

from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from letterlock_api.base import Lenient
from letterlock_api.values import Time

Status = Literal["True", "False", "Unknown"]


class Type(StrEnum):
    """Condition types. Positive ones are always present; warnings only while they hold."""

    ACCEPTED = "Accepted"
    READY = "Ready"
    PROGRAMMED = "Programmed"
    ISSUING = "Issuing"
    RESOLVED_REFS = "ResolvedRefs"
    DELIVERING = "Delivering"
    # Warnings, present and True only while they hold.
    WEAK_KEY = "WeakKey"
    EXPIRING_SOON = "ExpiringSoon"
    ISSUER_NOT_TRUSTED = "IssuerNotTrusted"
    NAMES_NOT_COVERED = "NamesNotCovered"
    NOT_EXPORTED = "NotExported"
    DEMO_CERTIFICATE = "DemoCertificate"
    OPEN_RELAY = "OpenRelay"
    SOURCE_ADDRESS_HIDDEN = "SourceAddressHidden"
    TLS_REQUIRED_OF_ALL = "TLSRequiredOfAll"
    CLIENT_CERTIFICATE_AVOIDABLE = "ClientCertificateAvoidable"
    DRAINING = "Draining"
    FIELD_CONFLICT = "FieldConflict"


class Reason(StrEnum):
    """Reasons: the same word in the condition, the Event, the log and the metric."""

    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    GATEWAY_NOT_FOUND = "GatewayNotFound"
    TOO_LARGE = "TooLarge"
    NAME_TAKEN = "NameTaken"
    NOT_SUPPORTED = "NotSupported"
    READY = "Ready"
    NOT_READY = "NotReady"
    DRAINING = "Draining"
    FIELD_CONFLICT = "FieldConflict"
    # Programmed
    PROGRAMMED = "Programmed"
    PENDING = "Pending"
    NO_MEMBERS = "NoMembers"
    BIND_FAILED = "BindFailed"
    MEMBERS_BEHIND = "MembersBehind"
    MEMBER_UNREACHABLE = "MemberUnreachable"
    SNAPSHOT_REFUSED = "SnapshotRefused"
    # Certificate
    ISSUED = "Issued"
    ISSUING = "Issuing"
    AWAITING_SIGNER = "AwaitingSigner"
    KEY_MISMATCH = "KeyMismatch"
    WRONG_PASSPHRASE = "WrongPassphrase"  # noqa: S105 - a reason, no secret
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, no secret
    INVALID_PEM = "InvalidPEM"
    NOT_CLUSTER_CAPABLE = "NotClusterCapable"
    EXPIRED = "Expired"
    NOT_YET_VALID = "NotYetValid"
    CHAIN_BROKEN = "ChainBroken"
    INVALID_PKCS12 = "InvalidPKCS12"
    NO_PRIVATE_KEY = "NoPrivateKey"
    SEVERAL_KEYS = "SeveralKeys"
    REQUEST_DENIED = "RequestDenied"
    REQUEST_FAILED = "RequestFailed"
    AWAITING_ACTIVATION = "AwaitingActivation"
    EXPIRING_SOON = "ExpiringSoon"
    ISSUER_NOT_TRUSTED = "IssuerNotTrusted"
    NAMES_NOT_COVERED = "NamesNotCovered"
    NOT_EXPORTED = "NotExported"
    WEAK_KEY = "WeakKey"
    # Listener
    PORT_CONFLICT = "PortConflict"
    UNKNOWN_POLICY = "UnknownPolicy"
    OPEN_RELAY = "OpenRelay"
    RESOLVED_REFS = "ResolvedRefs"
    CERTIFICATE_NOT_FOUND = "CertificateNotFound"
    CERTIFICATE_NOT_READY = "CertificateNotReady"
    CA_LIST_NOT_FOUND = "CAListNotFound"
    DEMO_CERTIFICATE = "DemoCertificate"
    TLS_REQUIRED_OF_ALL = "TLSRequiredOfAll"
    CLIENT_CERTIFICATE_AVOIDABLE = "ClientCertificateAvoidable"
    SOURCE_ADDRESS_HIDDEN = "SourceAddressHidden"
    DIRECTORY_NOT_FOUND = "DirectoryNotFound"
    # DestinationControl
    DOMAIN_CONFLICT = "DomainConflict"
    DELIVERED = "Delivered"
    TLS_NOT_OFFERED = "TLSNotOffered"
    TLS_REFUSED = "TLSRefused"
    HANDSHAKE_FAILED = "HandshakeFailed"
    NOT_TRUSTED = "NotTrusted"
    NAME_MISMATCH = "NameMismatch"
    UNREACHABLE = "Unreachable"
    SIGN_IN_REFUSED = "SignInRefused"
    NO_TRAFFIC = "NoTraffic"
    # CAList
    DISABLED = "Disabled"
    EMPTY = "Empty"
    SOURCE_NOT_FOUND = "SourceNotFound"


class Condition(Lenient):
    """One metav1.Condition: what is, since when, why in one word, and what to do about it."""

    type: str
    """What the condition is about."""
    status: Status
    """True, False or Unknown."""
    observed_generation: int | None = None
    """The resource's generation that was judged."""
    last_transition_time: Time
    """When the status last changed."""
    reason: str
    """One stable CamelCase word."""
    message: str = ""
    """For people: what is so, and what to do."""


MESSAGE_LIMIT: Final = 1024  # metav1 allows 32768; people read the first lines


def merged(present: list[Condition], judged: list[Condition]) -> list[Condition]:
    """`judged`, each with the transition time that it had in `present` where its status has not changed."""
    before = {condition.type: condition for condition in present}
    kept: list[Condition] = []
    for condition in judged:
        old = before.get(condition.type)
        same = old is not None and old.status == condition.status
        kept.append(
            condition.model_copy(update={"last_transition_time": old.last_transition_time})
            if old and same
            else condition
        )
    return kept


def condition(
    kind: Type, status: Status, reason: str, message: str, generation: int | None, now: datetime
) -> Condition:
    """A condition that was judged at `now` for a resource of this `generation`."""
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:MESSAGE_LIMIT],
        observed_generation=generation,
        last_transition_time=now.replace(microsecond=0),
    )
