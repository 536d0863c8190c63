"""All DestinationControls of a gateway: who owns which domain, and which of them a change concerns.

Called by `whole` and `snapshots`. The first time, all of them have changed. After that, those that did are judged anew,
with those that claim the same domains and those that inherit from them; the others stay the objects that they were.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from letterlock_api.destinationcontrol import DestinationControl, DestinationControlSpec
from letterlock_api.snapshot import Destination
from letterlock_operator.decide import credentials, destinations, domains
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.destinations import Judged
from letterlock_operator.decide.verdicts import Finding
from letterlock_operator.world import World

_EARLY: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT: Final = Destination(resource="", domains=["*"])
_DEFAULT_ENCODED: Final = _DEFAULT.encoded()


@dataclass(frozen=True, eq=False)
class Controls:
    """Those of one gateway, judged. Compared by identity: nothing has changed where the object is the same."""

    lists: Mapping[str, Authorities] = field(default_factory=dict[str, Authorities])
    """The CA lists that serve the gateway."""
    signing: Mapping[str, bytes | Finding] = field(default_factory=dict[str, bytes | Finding])
    """Credentials by the name of their Secret, as members get them, or why they do not."""
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """By domain: who lists it, the owner first."""
    owners: Mapping[str, str] = field(default_factory=dict[str, str])
    judged: Mapping[str, Judged] = field(default_factory=dict[str, Judged])
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    """By resource, `Kind/name`."""
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """All key files that are needed."""
    entries: Sequence[Destination] = (_DEFAULT,)
    """All destinations of the snapshot, one for `*` always among them; that one is the first if nobody wrote it."""
    encoded: Sequence[str] = (_DEFAULT_ENCODED,)
    """The same as they stand in `snapshot.json`."""


NONE: Final = Controls()


def judge_all(
    world: World,
    gateway: str,
    mine: Mapping[str, DestinationControl],
    lists: Mapping[str, Authorities],
    refused: Mapping[str, Finding],
    *,
    before: Controls,
    were: Mapping[str, DestinationControl],
) -> Controls:
    """Every DestinationControl of the gateway (`mine`).

    `before`: what the decision before has made of those that there were (`were`).
    `refused`: Secrets with credentials that cannot be handed to the members, and why.
    """
    changed = _changed(were, mine)
    altered = [one for _, one in changed.values() if one is not None]
    secrets = {route.auth.secret_ref.name for one in altered for route in one.spec.routes if route.auth}
    if len(altered) < len(mine):
        # Those that nobody needs any more stay, until all is judged anew: they concern nobody.
        secrets |= before.signing.keys()
    signing = {
        secret: refused.get(secret) or credentials.file(world, gateway, secret) for secret in sorted(secrets)
    }
    same = before.lists == lists and all(
        signing.get(secret) == found for secret, found in before.signing.items()
    )
    if not changed and same:
        return before
    claims, owners, concerned = _claimed(before, mine, changed)
    if not same:
        concerned = mine.keys()
    context = destinations.Context(owners, mine, lists, signing)
    judged = {name: one for name, one in before.judged.items() if name in mine}
    digests = dict(before.digests)
    for name in before.judged.keys() - mine.keys():
        digests.pop(f"DestinationControl/{name}", None)
    for name in concerned:
        judged[name] = one = destinations.judge(name, context)
        digests[f"DestinationControl/{name}"] = one.digest
    files: dict[str, bytes] = {}
    entries: list[Destination] = []
    encoded: list[str] = []
    if "*" not in owners:
        entries, encoded = [_DEFAULT], [_DEFAULT_ENCODED]
    for name in sorted(judged):
        one = judged[name]
        entries += one.destinations
        encoded += one.encoded
        if one.files:
            files |= one.files
    return Controls(lists, signing, claims, owners, judged, digests, files, entries, encoded)


def _changed(
    before: Mapping[str, DestinationControl], mine: Mapping[str, DestinationControl]
) -> dict[str, tuple[DestinationControl | None, DestinationControl | None]]:
    """Those whose specification or age differs, as they were and as they are. A status concerns nobody here."""
    if before is mine:
        return {}
    found: dict[str, tuple[DestinationControl | None, DestinationControl | None]] = {
        name: (before.get(name), one) for name, one in mine.items() if before.get(name) is not one
    }
    found |= {name: (one, None) for name, one in before.items() if name not in mine}
    return {
        name: (old, new)
        for name, (old, new) in found.items()
        if old is None or new is None or old.spec != new.spec or _age(old) != _age(new)
    }


def _claimed(
    before: Controls,
    mine: Mapping[str, DestinationControl],
    changed: Mapping[str, tuple[DestinationControl | None, DestinationControl | None]],
) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, str], Collection[str]]:
    """Who lists which domain, who owns it, and whom the changes concern."""
    claims, owners = dict(before.claims), dict(before.owners)
    concerned = {name for name in changed if name in mine}
    touched: set[str] = set()
    for name, (old, new) in changed.items():
        was, now = (
            _listed(old.spec) if old else frozenset[str](),
            _listed(new.spec) if new else frozenset[str](),
        )
        for domain in was - now:
            claims[domain] = tuple(one for one in claims[domain] if one != name)
        for domain in now - was:
            claims[domain] = (*claims.get(domain, ()), name)
        touched |= was | now
    for domain in touched:
        others = claims[domain]
        if len(others) > 1:
            others = claims[domain] = tuple(sorted(others, key=lambda one: _age(mine[one])))
        concerned.update(others)
        if others:
            owners[domain] = others[0]
        else:
            del claims[domain]
            owners.pop(domain, None)
    if len(concerned) == len(mine) or "*" in touched:
        return claims, owners, mine.keys()
    above = tuple(one for one in touched if one.startswith("."))
    if above:
        # What `domains.less_specific` gives are its endings; everybody who lists one of these may inherit.
        for domain, some in claims.items():
            if domain.endswith(above):
                concerned.update(some)
    return claims, owners, concerned


def _listed(spec: DestinationControlSpec) -> frozenset[str]:
    """The domains, normalised; those that are none are left out."""
    found: set[str] = set()
    for domain in spec.domains:
        try:
            found.add(domains.normalised(domain))
        except ValueError:
            continue
    return frozenset(found)


def _age(one: DestinationControl) -> tuple[datetime, str]:
    return one.metadata.creation_timestamp or _EARLY, one.name
