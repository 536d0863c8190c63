"""What tables show of each kind: pure functions from an object to its cells. Used by `resource_commands`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from letterlock_cli.objects import Object, items, name, part, texts
from letterlock_cli.output import condition, left


@dataclass(frozen=True)
class Listing:
    """One `list` command."""

    group: str
    kind: str
    help: str
    headings: tuple[str, ...]
    cells: Callable[[Object], Sequence[str]]


def _certificate(item: Object) -> Sequence[str]:
    status = part(item, "status")
    return (
        name(item),
        text(status.get("commonName") or status.get("subject")),
        "self-signed" if status.get("selfSigned") else text(status.get("issuer")),
        few(texts(status, "dnsNames")),
        expires(_first_end(status), datetime.now(UTC)),
        text(status.get("level")),
        text(len(items(status, "members")) or None),
        few(texts(status, "usedBy")),
        condition(item, "Ready"),
    )


def _first_end(status: Object) -> str | None:
    """When it ends; of several, one per member, that which ends first."""
    ends = [str(one["notAfter"]) for one in items(status, "members") if one.get("notAfter")]
    return min(ends, default=status.get("notAfter"))


def _listener(item: Object) -> Sequence[str]:
    spec, status = part(item, "spec"), part(item, "status")
    return (
        name(item),
        spec.get("type", "Public"),
        f"{spec.get('address') or '*'}:{spec.get('port', 25)}",
        spec.get("protocol", "SMTP"),
        text(spec.get("defaultDomain")),
        f"{spec.get('maxConcurrency', 1000)} ({spec.get('tcpQueue', 50)})",
        few([f"{one['from']}>{one['to']}" for one in items(spec, "domainMap")]),
        text(status.get("tls")),
        text(status.get("certificate")),
        condition(item, "Programmed"),
    )


def _destination(item: Object) -> Sequence[str]:
    spec, status = part(item, "spec"), part(item, "status")
    last = part(status, "lastTLS")
    delivered = last.get("result") == "Delivered"
    over = last.get("protocol") or ("clear text" if delivered else last.get("result"))
    return (
        name(item),
        few(texts(spec, "domains")),
        text(status.get("tlsMode") or part(spec, "tls").get("mode")),
        few([f"{one['host']}:{one.get('port', 25)}" for one in items(spec, "routes")]),
        text(over),
        ("yes" if last.get("verified") else "no") if delivered else "-",
        condition(item, "Delivering"),
        condition(item, "Programmed"),
    )


def _ca_list(item: Object) -> Sequence[str]:
    spec, status = part(item, "spec"), part(item, "status")
    return (
        name(item),
        spec.get("type", "Custom"),
        "yes" if spec.get("enabled", True) else "no",
        spec.get("scope", "Global"),
        text(status.get("count")),
        text(status.get("pinned")),
        str(len(items(status, "rejected"))),
        condition(item, "Ready"),
    )


LISTINGS: Final = (
    Listing(
        "certificate",
        "Certificate",
        "All of them: common name, issuer, names, expiry, level, members, and what uses them.",
        ("NAME", "COMMON NAME", "ISSUER", "NAMES", "EXPIRES", "LEVEL", "MEMBERS", "USED BY", "READY"),
        _certificate,
    ),
    Listing(
        "listener",
        "Listener",
        "List listeners: type, interface, concurrency with TCP queue, domain map, TLS setting, certificate.",
        (
            "NAME",
            "TYPE",
            "INTERFACE",
            "PROTOCOL",
            "DEFAULT DOMAIN",
            "MAX (QUEUE)",
            "DOMAIN MAP",
            "TLS",
            "CERTIFICATE",
            "PROGRAMMED",
        ),
        _listener,
    ),
    Listing(
        "destination",
        "DestinationControl",
        "List destination controls: domains, TLS mode, next hops, and how the last delivery went.",
        ("NAME", "DOMAINS", "TLS", "ROUTES", "LAST TLS", "VERIFIED", "DELIVERING", "PROGRAMMED"),
        _destination,
    ),
    Listing(
        "calist",
        "CAList",
        "All of them: type, whether and where they count, how many certificates they hold.",
        ("NAME", "TYPE", "ENABLED", "SCOPE", "CAS", "PINNED", "LEFT OUT", "READY"),
        _ca_list,
    ),
)


def expires(moment: str | None, now: datetime) -> str:
    """When a certificate ends, and how long that is from `now`."""
    if not moment:
        return "-"
    end = datetime.fromisoformat(moment)
    return f"{end:%Y-%m-%d} ({left(end, now)})"


def text(value: object) -> str:
    """A cell: `-` where there is nothing."""
    return "-" if value in (None, "") else str(value)


def few(values: Sequence[str]) -> str:
    """The first of several, and how many more there are."""
    if not values:
        return "-"
    return values[0] if len(values) == 1 else f"{values[0]} +{len(values) - 1}"
