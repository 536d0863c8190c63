"""Scalar types of the manifests, with their bounds and their shapes.

Every bound is also a bound in the CRD: the API server estimates what a CEL rule costs from the largest object
that the schema allows, and refuses rules over unbounded strings and lists (measured on kube-apiserver 1.36).
Shapes are CEL rules and no schema patterns wherever the cost allows it: a pattern's error shows a regular
expression, a rule's error says what to write.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from letterlock_api.base import DURATION_PATTERN, SIZE_PATTERN, format_time, parse_size


@dataclass(frozen=True)
class Shape:
    """What a value must look like, for the API server and for pydantic: one rule, one advice."""

    advice: str
    """Says what to write."""
    holds: Callable[[Any], bool]
    """Whether pydantic takes a value."""
    keywords: tuple[tuple[str, Any], ...]
    """What the API server goes by: CEL, or a pattern."""

    @classmethod
    def by_rule(cls, cel: str, advice: str, holds: Callable[[Any], bool]) -> Self:
        """A rule in CEL, and its twin."""
        return cls(advice, holds, (("x-kubernetes-validations", [{"rule": cel, "message": advice}]),))

    @classmethod
    def matching(cls, pattern: str, advice: str) -> Self:
        """A regular expression that RE2 and Python read alike, and that the whole value must match."""
        return cls.by_rule(
            f'self.matches(r"^{pattern}$")', advice, lambda value: bool(re.fullmatch(pattern, value))
        )

    @classmethod
    def pattern(cls, pattern: str, advice: str) -> Self:
        """The same as a schema pattern, for long lists in long lists, where CEL would cost too much."""
        return cls(advice, lambda value: bool(re.fullmatch(pattern, value)), (("pattern", f"^{pattern}$"),))

    def check[Value](self, value: Value) -> Value:
        """The value. Raises the error that pydantic reports where the shape is another."""
        if not self.holds(value):
            raise PydanticCustomError("shape", "{advice}", {"advice": self.advice})
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), **dict(self.keywords)}


# Domain names as mail uses them; U-labels are taken too and turned into A-labels by decide (RFC 5890).
# Left out: white space, controls, quotes, parentheses, brackets, braces, and what separates things elsewhere.
_CHARACTER: Final = r"[^\x00-\x20\x22\x28\x29*,./:;<>@\[-\]{}\x7f]"
_LABEL: Final = f"{_CHARACTER}+"
_DOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_PLACEHOLDER: Final = r"\{member\}|\{ordinal\}"
_TEMPLATE_LABEL: Final = rf"({_CHARACTER}|{_PLACEHOLDER})+"
_OCTET: Final = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_HEX: Final = "[0-9A-Fa-f]{1,4}"
_IPV4: Final = rf"{_OCTET}(\.{_OCTET}){{3}}"
# RFC 4291 section 2.2: eight groups, or fewer around one "::", and IPv4-mapped addresses with dots.
_IPV6: Final = "|".join(
    (
        f"({_HEX}:){{7}}{_HEX}",
        f"({_HEX}:){{1,7}}:",
        *(f"({_HEX}:){{1,{before}}}(:{_HEX}){{1,{7 - before}}}" for before in range(6, 0, -1)),
        f":((:{_HEX}){{1,7}}|:)",
        f"::[Ff]{{4}}:{_IPV4}",
    )
)
_ONE_LINE: Final = Shape.matching(
    r"[^\x00-\x1f\x7f]*", "write one line of text, without line breaks and control characters"
)

Duration = Annotated[
    str,
    StringConstraints(max_length=32),
    Shape.matching(DURATION_PATTERN, "write a number with its unit, as in 60s, 15m or 72h"),
]
Size = Annotated[
    int,
    Field(ge=1),
    BeforeValidator(parse_size),
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "maxLength": 16,
            "x-kubernetes-validations": [
                {
                    "rule": f'type(self) == string ? self.matches(r"^{SIZE_PATTERN}$") : self >= 1',
                    "message": "write bytes, or a quantity such as 10Mi",
                }
            ],
        }
    ),
]
Time = Annotated[
    datetime, PlainSerializer(format_time, when_used="json"), Field(json_schema_extra={"format": "date-time"})
]
Port = Annotated[int, Field(ge=1, le=65535)]
Text = Annotated[str, StringConstraints(max_length=512), _ONE_LINE]

DNS_LABEL_PATTERN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNSLabel = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63),
    Shape.matching(DNS_LABEL_PATTERN, "write lower-case letters, digits and '-', with no '-' at either end"),
]
ObjectName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    Shape.matching(
        r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?",
        "write the name of an object: lower-case letters, digits, '-' and '.'",
    ),
]
ObjectNameTemplate = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    Shape.matching(
        rf"([a-z0-9]|{_PLACEHOLDER})([-a-z0-9.]|{_PLACEHOLDER})*",
        "write the name of an object: lower-case letters, digits, '-' and '.'; "
        "{member} and {ordinal} may stand in it",
    ),
]
DataKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    Shape.matching(r"[-._a-zA-Z0-9]+", "write letters, digits, '-', '_' and '.'"),
]
DataKeyTemplate = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    Shape.matching(
        rf"([-._a-zA-Z0-9]|{_PLACEHOLDER})+",
        "write letters, digits, '-', '_' and '.'; {member} and {ordinal} may stand in it",
    ),
]

DomainName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    Shape.matching(_DOMAIN, "write a domain name, as in example.com"),
]
# In lists within lists: a pattern, for its cost.
ListedDomainName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    Shape.pattern(_DOMAIN, "write a domain name, as in example.com"),
]
DestinationDomain = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    Shape.matching(
        rf"(\*|\.?{_DOMAIN})",
        "write a domain (example.com), .example.com for everything below it (not *.example.com), or * alone",
    ),
]
_CERTIFICATE_NAME: Final = Shape.matching(
    rf"([*]?{_TEMPLATE_LABEL}[*]?(\.{_TEMPLATE_LABEL})*|[*](\.{_TEMPLATE_LABEL})+)",
    "write a DNS name, as in mx.example.com or *.example.com; {member} and {ordinal} may stand in it",
)
CertificateName = Annotated[str, StringConstraints(min_length=1, max_length=255), _CERTIFICATE_NAME]
# 64: X.520, ub-common-name.
CommonName = Annotated[str, StringConstraints(min_length=1, max_length=64), _CERTIFICATE_NAME]
HostnameTemplate = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    Shape.matching(
        rf"{_TEMPLATE_LABEL}(\.{_TEMPLATE_LABEL})*",
        "write a host name, as in mx.example.com; {member} and {ordinal} may stand in it",
    ),
]
Host = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    Shape.matching(
        rf"({_DOMAIN}|{_IPV6})", "write a host name or an address alone; the port goes into its own field"
    ),
]
HostPort = Annotated[
    str,
    StringConstraints(min_length=1, max_length=262),
    Shape.matching(
        rf"({_DOMAIN}|\[[0-9A-Fa-f:.]+\])(:[0-9]{{1,5}})?",
        "write host:port, as in 192.0.2.53:53 or [2001:db8::53]:53",
    ),
]
IPAddress = Annotated[
    str,
    StringConstraints(min_length=1, max_length=45),
    Shape.matching(f"({_IPV4}|{_IPV6})", "write an IPv4 or IPv6 address, as in 192.0.2.1 or ::"),
]
Network = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    Shape.matching(
        rf"({_IPV4}(/(3[0-2]|[12]?[0-9]))?|({_IPV6})(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)",
        "write an address or a CIDR, as in 192.0.2.0/24 or 2001:db8::/32",
    ),
]
MailAddress = Annotated[
    str,
    StringConstraints(min_length=3, max_length=320),
    Shape.matching(
        r"[^\x00-\x20\x7f<>@]+@[^\x00-\x20\x7f<>@]+", "write a mail address, as in postmaster@example.com"
    ),
]
_LITERAL: Final = r"\[[0-9A-Za-z:.]+\]"
AddressPattern = Annotated[
    str,
    StringConstraints(min_length=1, max_length=320),
    Shape.pattern(
        rf"(\.?{_DOMAIN}|{_LITERAL}|[^\x00-\x20\x7f<>@]+@({_DOMAIN}|{_LITERAL})?)",
        "write user@domain, domain, .domain for everything below it (not *.domain), or user@",
    ),
]
Client = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    Shape.pattern(
        r"[^\x00-\x20\x22\x28\x29*,;<>@\[-\]{}\x7f]+",
        "write an address, a CIDR, a range, a partial IPv4 address, a host name, .domain or ALL",
    ),
]
Fingerprint = Annotated[
    str,
    StringConstraints(max_length=64),
    Shape.matching("[0-9a-f]{64}", "write a sha256 fingerprint: 64 lower-case hexadecimal digits"),
]
Ciphers = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    Shape.matching("[-+!@=:_A-Za-z0-9]+", "write an OpenSSL cipher list, as in ECDHE+AESGCM:!aNULL"),
]


def _is_public_pem(text: str) -> bool:
    return "-----BEGIN " in text and " PRIVATE KEY-----" not in text


_PUBLIC_PEM: Final = Shape.by_rule(
    'self.contains("-----BEGIN ") && !self.contains(" PRIVATE KEY-----")',
    "write PEM (-----BEGIN CERTIFICATE-----) without private keys: those belong into Secrets",
    _is_public_pem,
)
PEM = Annotated[str, StringConstraints(max_length=262144), _PUBLIC_PEM]
# One certificate with its intermediates, in a list of them.
ChainPEM = Annotated[str, StringConstraints(max_length=65536), _PUBLIC_PEM]
