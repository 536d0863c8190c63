"""What all models share: strictness, naming in YAML, and how durations, times and sizes are written."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP: Final = "letterlock.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "letterlock"

# metav1 durations as Go writes them; the unit is required: "60" is refused and not taken for nanoseconds.
# So few digits that no sum of parts overflows Go's 292 years within the 32 characters that are allowed.
DURATION_PATTERN: Final = r"([0-9]{1,5}(\.[0-9]{1,3})?h|[0-9]{1,6}(\.[0-9]{1,3})?(ms|m|s))+"
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_DURATION_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

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
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: write a number with its unit, as in 60s, 15m or 72h")
    return timedelta(
        seconds=sum(float(n) * _DURATION_UNITS[unit] for n, unit in _DURATION_PART.findall(text))
    )


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as the API server writes it, as an aware datetime in UTC. Raises ValueError."""
    return datetime.fromisoformat(text).astimezone(UTC)


@lru_cache(1024)  # one decision says the same moment thousands of times
def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second, as metav1.Time is written."""
    return moment.astimezone(UTC).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")


SIZE_PATTERN: Final = "[1-9][0-9]{0,11}(Ki|Mi|Gi|k|M|G)?"
_QUANTITY_UNITS: Final = {
    "": 1,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "k": 1000,
    "M": 1000_000,
    "G": 1000_000_000,
}


def parse_size(value: object) -> int:
    """Bytes from a number or from a Kubernetes quantity such as `10Mi`. Raises ValueError."""
    if not re.fullmatch(SIZE_PATTERN, str(value)):
        raise ValueError("write bytes, or a quantity such as 10Mi")
    digits = str(value).rstrip("KMGik")
    return int(digits) * _QUANTITY_UNITS[str(value)[len(digits) :]]
