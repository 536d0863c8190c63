"""What would delivery to a domain do: by a snapshot, from here, without sending anything (`letterlock check`).

Called by the command line with a snapshot that it read, and by `lookup` in a member's pod or beside it. The
connections are delivery's own (`deliver.survey`).
"""

import asyncio
import ipaddress
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import uvloop

from letterlock_api.destinationcontrol import default_min_version
from letterlock_api.snapshot import Destination, NextHop, ResolvedTLSMode, Snapshot
from letterlock_gateway import mount
from letterlock_gateway.deliver import findings
from letterlock_gateway.deliver.lookups import Lookups
from letterlock_gateway.deliver.survey import survey
from letterlock_gateway.deliver.terms import Terms, Timeouts
from letterlock_gateway.manage import control
from letterlock_gateway.mount import MountedSet
from letterlock_gateway.running import RunningSet, by_domain, most_specific
from letterlock_gateway.spool import domain_of

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_LONGEST: Final = 253
SECONDS: Final = 30.0
"""For each step, unless asked for otherwise. Delivery waits for minutes (RFC 5321); people do not."""


def request(
    domain: str, *, mode: ResolvedTLSMode | None = None, route: str = "", seconds: float = SECONDS
) -> dict[str, Any]:
    """A request to check `domain` (lower case, A-labels); `route`: `host:port` to go to instead."""
    return {"do": "check", "domain": domain, "mode": mode, "route": route, "seconds": seconds}


def domain_in(text: str) -> str:
    """The domain that `text` (a domain, or an address) names: lower case and A-labels, or an address literal.

    Raises ValueError.
    """
    found = domain_of(text if "@" in text else f"@{text}").removesuffix(".")
    if found.startswith("[") and found.endswith("]"):
        try:
            ipaddress.ip_address(found[1:-1].removeprefix("ipv6:"))
        except ValueError:
            raise ValueError(f"{text} is no address literal") from None
        return found
    if len(found) > _LONGEST or not all(_LABEL.fullmatch(label) for label in found.split(".")):
        raise ValueError(f"{text!r} is no domain name")
    return found


def needed(snapshot: Snapshot, domain: str, member: str) -> Snapshot:
    """What of `snapshot` a check of `domain` needs: keys of listeners and of other next hops stay where they are."""
    found = most_specific(by_domain(snapshot), domain)
    destinations = [found] if found is not None else []
    listeners = [
        one.model_copy(update={"policies": [], "certificates": [], "query": None})
        for one in snapshot.listeners
    ]
    files = {trusted.file for trusted in snapshot.trust.values()}
    files |= {route.auth_file for one in destinations for route in one.routes if route.auth_file}
    if (certificate := snapshot.delivery.certificate) is not None and (file := certificate.file_for(member)):
        files.add(file)
    changes = {
        "listeners": listeners,
        "directories": [],
        "destinations": destinations,
        "files": sorted(files),
    }
    return snapshot.model_copy(update=changes)


def check(
    snapshot: Snapshot, files: Mapping[str, bytes], member: str, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """The findings for a `request`, on the terms of `member`; `files`: those that `needed` names.

    Raises MountRefused.
    """
    wanted = needed(snapshot, asked["domain"], member)
    running = RunningSet.build(MountedSet(wanted, files, snapshot.hash(), b""), member)
    return _run(running, asked)


def inside(spool: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The same where the member on `spool` runs, with what it has mounted. Raises NotRunning, MountRefused."""
    runs = asyncio.run(control.ask(spool, {"do": "running"}))
    mounted = mount.read(Path(runs["mount"]))
    found = check(mounted.snapshot, mounted.files, runs["member"], asked)
    if runs["snapshot"] != mounted.hash:
        found["behind"] = (
            "the member runs an earlier snapshot than the one that is mounted: see `letterlock status`"
        )
    return found


def _run(running: RunningSet, asked: Mapping[str, Any]) -> dict[str, Any]:
    terms = Terms.of(_as_asked(running, asked), asked["domain"])
    delivery = running.snapshot.delivery
    lookups = Lookups(delivery.resolvers, delivery.address_family)
    seconds = float(asked["seconds"])
    timeouts = Timeouts(
        connect=min(seconds, Timeouts.connect),
        greeting=seconds,
        hello=seconds,
        start_tls=seconds,
        handshake=seconds,
    )
    found = uvloop.run(survey(terms, lookups, timeouts, time.time))
    return findings.of(found, time.time())


def _as_asked(running: RunningSet, asked: Mapping[str, Any]) -> RunningSet:
    """The set with another mode or next hop, where the request names one."""
    policy = running.destination_for(asked["domain"])
    changes: dict[str, Any] = {}
    if asked["mode"] is not None:
        changes |= _under(policy, asked["mode"])
    if asked["route"]:
        changes["routes"] = [_route(policy, asked["route"])]
    return running.with_destination(policy.model_copy(update=changes)) if changes else running


def _under(policy: Destination, mode: ResolvedTLSMode) -> dict[str, Any]:
    version = policy.min_version if policy.min_version_set else default_min_version(mode)
    return {"tls_mode": mode, "min_version": version}


def _route(policy: Destination, text: str) -> NextHop:
    """The next hop `host:port`, as the policy has it where it does (with sign-in and implicit TLS)."""
    host, _, port = text.rpartition(":")
    wanted = NextHop(host=host.strip("[]"), port=int(port))
    same = (one for one in policy.routes if (one.host.strip("[]"), one.port) == (wanted.host, wanted.port))
    return next(same, wanted)
