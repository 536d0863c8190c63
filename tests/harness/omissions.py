"""Listeners with everything left out, or empty, that can be: none of them may relay for a stranger.

`SPECS` is every combination; `FOREIGN` every way to write that mail is for somebody elsewhere. Walked twice by
tests/gateway/test_never_an_open_relay.py: as decisions and sessions, and over sockets.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

OWN: Final = "here.example"
# A group of senders of one's own, in which the stranger is not.
_INSIDE: Final = [{"name": "inside", "senders": ["198.51.100.0/24", "127.0.0.77"], "policy": "p"}]
_BY_NAME: Final = [{"name": "named", "senders": [".inside.example"], "policy": "p"}]
_RELAY: Final = {"name": "p", "behavior": "Relay"}
_CERTIFIED: Final = {
    "mode": "Required",
    "clientCertificate": "Required",
    "clientCertificates": {"names": ["partner.example"]},
}
_OPTIONAL: Final = {"mode": "Preferred", "clientCertificate": "Optional"}

_DEFAULTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"defaultPolicy": {}},
    *({"defaultPolicy": {"behavior": one}} for one in ("Accept", "Relay", "Reject", "TCPRefuse")),
    {"defaultPolicy": {"tls": {}}},
    {"defaultPolicy": {"tls": _OPTIONAL}},
    {"defaultPolicy": {"behavior": "Relay", "tls": _OPTIONAL}},
)
_ACCESS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"senderGroups": [], "mailFlowPolicies": []},
    {"mailFlowPolicies": [{"name": "p"}]},
    {"mailFlowPolicies": [_RELAY]},
    {"mailFlowPolicies": [{"name": "p"}], "senderGroups": []},
    {"mailFlowPolicies": [{"name": "p"}], "senderGroups": _INSIDE},
    {"mailFlowPolicies": [_RELAY], "senderGroups": _INSIDE},
    {"mailFlowPolicies": [_RELAY], "senderGroups": _BY_NAME},
    {"mailFlowPolicies": [{**_RELAY, "tls": _CERTIFIED}], "senderGroups": _INSIDE},
    {
        "mailFlowPolicies": [{**_RELAY, "tls": _CERTIFIED}],
        "senderGroups": [{"name": "all", "senders": ["ALL"], "policy": "p"}],
    },
    {"senderGroups": _INSIDE},  # names a policy that is not there
)
_RECIPIENTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"recipients": []},
    {"recipients": [{"match": [OWN]}]},
    {"recipients": [{"match": [OWN], "action": "Reject"}]},
)
_PROXIES: Final[tuple[dict[str, Any], ...]] = ({}, {"proxyProtocol": {"from": ["127.0.0.99"]}})
_QUERIES: Final[tuple[dict[str, Any], ...]] = ({}, {"acceptQuery": {"ldap": "people"}})
_DOMAINS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"defaultDomain": OWN, "domainMap": [{"from": "old.example", "to": "elsewhere.example"}]},
)

FOREIGN: Final = (
    "<u@elsewhere.example>",
    "<u@ELSEWHERE.EXAMPLE>",
    "<u@elsewhere.example.>",
    f"<u@{OWN}.elsewhere.example>",
    f"<u@sub.{OWN}>",
    f"<@{OWN}:u@elsewhere.example>",
    f"<@{OWN},@mx.{OWN}:u@elsewhere.example>",
    f"<@elsewhere.example:u%elsewhere.example@{OWN}>",
    f"<u%elsewhere.example@{OWN}>",
    f"<u%elsewhere.example@mx.{OWN}>",
    f"<u%elsewhere.example%{OWN}@{OWN}>",
    "<u%elsewhere.example>",
    f"<elsewhere.example!u@{OWN}>",
    f"<{OWN}!elsewhere.example!u>",
    "<elsewhere.example!u>",
    f'<"u@elsewhere.example"@{OWN}>',
    f'<"u%elsewhere.example"@{OWN}>',
    f'<"elsewhere.example!u"@{OWN}>',
    f'<"u\\@elsewhere.example"@{OWN}>',
    '<"u@elsewhere.example">',
    '<"u"@elsewhere.example>',
    f"<u@elsewhere.example@{OWN}>",
    "<u@[192.0.2.1]>",
    "<u@[127.0.0.1]>",
    "<u%elsewhere.example@[127.0.0.1]>",
    "<u@[IPv6:2001:db8::1]>",
    "<u@old.example>",
    "<postmaster@elsewhere.example>",
    f"<postmaster%elsewhere.example@{OWN}>",
    '<"postmaster"@elsewhere.example>',
    f"u@elsewhere.example <u@{OWN}",
)


def specs() -> Iterator[dict[str, Any]]:
    """Every combination, as the spec of a Listener."""
    for parts in product(
        ({"type": "Public"}, {"type": "Private"}, {}),
        *(_DEFAULTS, _ACCESS, _RECIPIENTS, _PROXIES, _QUERIES, _DOMAINS),
    ):
        yield _whole(parts)
    smtps = {"protocol": "SMTPS", "recipients": [{"match": [OWN]}]}
    for parts in product(({"type": "Public"}, {"type": "Private"}), _DEFAULTS, _ACCESS, _PROXIES):
        yield _whole(parts) | smtps


def _whole(parts: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}
