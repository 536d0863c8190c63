"""What all models share: strictness, naming in YAML, and the scalar types with their bounds.

Every bound is also a bound in the CRD: the API server estimates what a CEL rule costs from the largest object that the
schema allows, and refuses rules over unbounded strings and lists (measured on kube-apiserver 1.36).
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints
from pydantic.alias_generators import to_camel

GROUP: Final = "letterlock.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "letterlock"

# metav1 durations as Go writes them; the unit is required, so that "60" is refused and not taken for nanoseconds.
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(h|m|s|ms))+$"
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_DURATION_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

DNS_LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
OBJECT_NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
# 52: "letterlock-" plus the name is the name of a Service, a DNS label of at most 63 characters.
MAX_SERVICE_OWNER_NAME: Final = 52


def to_yaml_name(name: str) -> str:
    """The YAML name of a Python attribute: camelCase, with the acronyms that the API spells in capitals."""
    special = {
        "base_dn": "baseDN",
        "bind_dn": "bindDN",
        "implicit_tls": "implicitTLS",
        "last_tls": "lastTLS",
        "queue_tls": "queueTLS",
    }
    return special.get(name, to_camel(name))


class Model(BaseModel):
    """Base of everything that users write: unknown fields are errors, values never change."""

    model_config = ConfigDict(
        alias_generator=to_yaml_name,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )


class Lenient(BaseModel):
    """Base of what programs tell each other: an older reader ignores what it does not know yet."""

    model_config = ConfigDict(
        alias_generator=to_yaml_name,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )


def parse_duration(text: str) -> timedelta:
    """A Go-style duration (`60s`, `1h30m`) as a timedelta.

    Raises ValueError for anything else, a number without unit included.
    """
    if not re.match(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: write a number with its unit, as in 60s, 15m or 72h")
    return timedelta(
        seconds=sum(float(n) * _DURATION_UNITS[unit] for n, unit in _DURATION_PART.findall(text))
    )


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as the API server writes it, as an aware datetime in UTC. Raises ValueError."""
    return datetime.fromisoformat(text).astimezone(UTC)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second, as metav1.Time is written."""
    return moment.astimezone(UTC).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")


_QUANTITY: Final = re.compile(r"^([0-9]+)(Ki|Mi|Gi|k|M|G)?$")
_QUANTITY_UNITS: Final = {
    "": 1,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "k": 1000,
    "M": 1000_000,
    "G": 1000_000_000,
}


def parse_size(value: Any) -> int:
    """Bytes from a number or from a Kubernetes quantity such as `10Mi`. Raises ValueError."""
    match = _QUANTITY.match(str(value))
    if not match:
        raise ValueError(f"{value!r} is not a size: write bytes, or a quantity such as 10Mi")
    return int(match[1]) * _QUANTITY_UNITS[match[2] or ""]


Duration = Annotated[str, StringConstraints(pattern=DURATION_PATTERN, max_length=32)]
Size = Annotated[
    int,
    Field(ge=1),
    BeforeValidator(parse_size),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
Time = Annotated[
    datetime, PlainSerializer(format_time, when_used="json"), Field(json_schema_extra={"format": "date-time"})
]
Port = Annotated[int, Field(ge=1, le=65535)]
DNSLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL_PATTERN, min_length=1, max_length=63)]
ObjectName = Annotated[str, StringConstraints(pattern=OBJECT_NAME_PATTERN, min_length=1, max_length=253)]
# Domain names as mail uses them; U-labels are taken too and turned into A-labels by decide (RFC 5890).
DomainName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Text = Annotated[str, StringConstraints(max_length=512)]
PEM = Annotated[str, StringConstraints(max_length=262144)]


class Reference(Model):
    """Names another resource of the same namespace."""

    name: ObjectName
    """Name of the resource, in the same namespace."""


class GatewayReference(Model):
    """Names the MailGateway that a resource belongs to."""

    name: ObjectName = "default"
    """Name of the MailGateway in the same namespace."""


class KeyReference(Model):
    """One key of a Secret or ConfigMap of the same namespace."""

    name: ObjectName
    """Name of the object."""
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9{}]+$")]
    """Key in its data."""


class PEMSource(Model):
    """Public PEM text kept in a ConfigMap or a Secret: exactly one of the two."""

    config_map_key_ref: KeyReference | None = None
    """Key of a ConfigMap."""
    secret_key_ref: KeyReference | None = None
    """Key of a Secret."""
