"""What `letterlock status` shows: how a gateway does, from its resources and its members' queues. Pure.

Called by `status_command`. Everything here is plain values, in the order in which people read them; with `-o json`
they are printed as they are, so their names are a promise.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from letterlock_cli.objects import Object, condition, conditions, items, name, part, texts

type Values = dict[str, Any]

_POSITIVE: Final = ("Accepted", "ResolvedRefs", "Ready", "Programmed", "Delivering")
_ORDER: Final = ("MailGateway", "Listener", "Certificate", "DestinationControl", "CAList")
# No mail was sent there yet, or nothing is there to send it: nothing to attend to.
_QUIET: Final = frozenset({"NoTraffic"})


def overview(found: Sequence[Object], queues: Mapping[str, Values], *, served: bool | None = None) -> Values:
    """All of it. `found`: every resource of the namespace; `queues`: what members said of theirs, by member.

    `served`: whether `letterlock up` serves the folder; None: it is a cluster. A folder's statuses stay as they
    were when it ends, and what nobody runs is not said to be running.
    """
    gateways = _of(found, "MailGateway")
    members = [_member(gateway, one, queues) for gateway in gateways for one in _members(gateway)]
    seen = _all(found, gateways, members, queues) | {"served": served}
    return _stopped(seen) if served is False else seen


def _all(
    found: Sequence[Object],
    gateways: Sequence[Object],
    members: Sequence[Values],
    queues: Mapping[str, Values],
) -> Values:
    return {
        "gateways": [_gateway(one) for one in gateways],
        "members": members,
        "listeners": [_listener(one) for one in _of(found, "Listener")],
        "destinations": _troubles(_of(found, "DestinationControl")),
        "certificates": _certificates(_of(found, "Certificate")),
        "queue": _queue(members, queues),
        "attention": [one for kind in _ORDER for item in _of(found, kind) for one in _attention(item)],
    }


def _stopped(seen: Values) -> Values:
    nobody = {"programmed": "False", "reason": "NoMembers"}
    notice = {
        "kind": "MailGateway",
        "type": "Ready",
        "status": "False",
        "reason": "NoMembers",
        "message": "`letterlock up` does not run on this folder; the rest is how it was last",
    }
    return seen | {
        "gateways": [one | nobody | {"ready": "0/1"} for one in seen["gateways"]],
        "members": [one | {"current": False, "problems": ["does not run"]} for one in seen["members"]],
        "listeners": [one | nobody | {"listening": 0} for one in seen["listeners"]],
        "attention": [notice | {"name": one["name"]} for one in seen["gateways"]] + seen["attention"],
    }


def _of(found: Sequence[Object], kind: str) -> list[Object]:
    return [one for one in found if one["kind"] == kind]


def _members(gateway: Object) -> list[Object]:
    return items(part(gateway, "status"), "members")


def _gateway(item: Object) -> Values:
    status = part(item, "status")
    return {
        "name": name(item),
        "hostname": part(item, "spec").get("hostname"),
        "ready": status.get("ready"),
        "snapshot": status.get("snapshot"),
        **_programmed(item),
    }


def _member(gateway: Object, one: Object, queues: Mapping[str, Values]) -> Values:
    wanted, runs = part(gateway, "status").get("snapshot"), one.get("snapshot")
    queue = queues.get(one["name"], {})
    return {
        "name": one["name"],
        "gateway": name(gateway),
        "current": bool(runs) and runs == wanted,
        "snapshot": runs,
        "queue": queue.get("recipients", one.get("queue")),
        "oldest": queue.get("oldest"),
        "problems": texts(one, "problems"),
    }


def _listener(item: Object) -> Values:
    spec, status = part(item, "spec"), part(item, "status")
    states = items(status, "members")
    return {
        "name": name(item),
        "type": spec.get("type", "Public"),
        "address": spec.get("address"),
        "port": spec.get("port", 25),
        "protocol": spec.get("protocol", "SMTP"),
        "tls": status.get("tls"),
        "certificate": status.get("certificate"),
        "listening": sum(bool(one.get("listening")) for one in states),
        "members": len(states),
        **_programmed(item),
    }


def _troubles(found: Sequence[Object]) -> list[Values]:
    """Domains that mail cannot be delivered to now, those that fail longest first."""
    troubles = [
        {"resource": name(item), "domain": one["domain"], "reason": one["reason"], "since": one["since"]}
        for item in found
        for one in items(part(item, "status"), "failing")
    ]
    return sorted(troubles, key=lambda one: (one["since"], one["domain"]))


def _certificates(found: Sequence[Object]) -> list[Values]:
    """One entry for each that is served; those that end first, first; those that are not there yet before all."""
    entries: list[Values] = []
    for item in found:
        status = part(item, "status")
        ready = condition(item, "Ready")
        common = {
            "name": name(item),
            "commonName": status.get("commonName") or status.get("subject"),
            "selfSigned": status.get("selfSigned"),
            "usedBy": texts(status, "usedBy"),
            "ready": ready.get("status") == "True",
            "reason": ready.get("reason"),
        }
        members = [one for one in items(status, "members") if one.get("notAfter")]
        ends = [(one["name"], one["notAfter"]) for one in members] or [(None, status.get("notAfter"))]
        entries += [{**common, "member": member, "notAfter": end} for member, end in ends]
    return sorted(entries, key=lambda one: (one["notAfter"] or "", one["name"], one["member"] or ""))


def _queue(members: Sequence[Values], queues: Mapping[str, Values]) -> Values:
    domains: dict[str, int] = {}
    for one in queues.values():
        for entry in items(one, "domains"):
            domains[entry["domain"]] = domains.get(entry["domain"], 0) + entry["recipients"]
    known = {one["name"] for one in members}
    # A member that has gone from the status (or has none yet) may have mail all the same.
    others = sum(one.get("recipients", 0) for member, one in queues.items() if member not in known)
    ranked = sorted(domains.items(), key=lambda one: (-one[1], one[0]))
    return {
        "recipients": sum(one["queue"] or 0 for one in members) + others,
        "oldest": min((one["oldest"] for one in queues.values() if one.get("oldest")), default=None),
        "complete": all(one["queue"] is not None for one in members),
        "domains": [{"domain": domain, "recipients": count} for domain, count in ranked[:5]],
    }


def _attention(item: Object) -> list[Values]:
    """What a resource asks for: the first thing that is not as it shall be, and every warning that stands."""
    wrong = [one for kind in _POSITIVE if (one := condition(item, kind)) and _is_wrong(one)]
    warnings = [one for one in conditions(item) if one["type"] not in (*_POSITIVE, "Issuing")]
    unjudged = [] if conditions(item) else [_UNJUDGED]
    found = [*wrong[:1], *(one for one in warnings if one["status"] == "True"), *unjudged]
    return [
        {
            "kind": item["kind"],
            "name": name(item),
            "type": one["type"],
            "status": one["status"],
            "reason": one["reason"],
            "message": " ".join(str(one.get("message", "")).split()),
        }
        for one in found
    ]


def _is_wrong(one: Object) -> bool:
    return one["status"] != "True" and one["reason"] not in _QUIET


_UNJUDGED: Final = {
    "type": "Accepted",
    "status": "Unknown",
    "reason": "Pending",
    "message": "nobody has judged it yet: does the operator (or `letterlock up`) run?",
}


def _programmed(item: Object) -> Values:
    found = condition(item, "Programmed")
    return {"programmed": found.get("status", "Unknown"), "reason": found.get("reason", "Pending")}


def age(since: str | None, now: datetime) -> str:
    """How long ago that was: `42s`, `5m`, `3h`, `2d`."""
    if not since:
        return "-"
    seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    for unit, size, most in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"
