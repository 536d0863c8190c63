"""What becomes of one gateway: its snapshot, as far as there is room for what it names. Called by `whole`.

What there is no room for stays as it is in place, and says so (`TooLarge`); everything else goes on.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from letterlock_api import packing
from letterlock_api.conditions import Reason, Type
from letterlock_api.credentials import file_name
from letterlock_api.resource import Metadata
from letterlock_api.snapshot import Snapshot, content_hash, is_private
from letterlock_operator.decide import authorities, in_place, room, snapshots
from letterlock_operator.decide.authorities import Authorities
from letterlock_operator.decide.judged_certificates import JudgedCertificate
from letterlock_operator.decide.snapshots import Draft, Given, Outcome
from letterlock_operator.decide.verdicts import Finding, false
from letterlock_operator.plan import Mount
from letterlock_operator.world import World

# An object ends at 1 MiB, and the rest of a ConfigMap needs some of it.
MAX_SNAPSHOT: Final = packing.PLAIN
_EARLY: Final = datetime(1970, 1, 1, tzinfo=UTC)


def build(world: World, given: Given, now: datetime) -> tuple[Outcome, datetime | None]:
    """The outcome for a gateway, and until when it is that if nothing happens: None: for good."""
    gateway = given.gateway.name
    refused = room.Refused()
    while True:
        draft = snapshots.draft(
            world,
            given,
            {**given.lists, **_lists_as_they_are(world, given.lists, given.before, refused, now)},
            {**given.judged, **_certificates_as_they_are(given.judged, refused)},
            dict.fromkeys(refused.credentials, room.held_back()),
        )
        placed = room.place(world, gateway, _sizes(world, draft))
        more = _without_room(placed.left, draft)
        if refused | more == refused:
            # What stays of a list without room ends piece by piece.
            return _outcome(given, draft, placed), now if refused.lists else None
        refused |= more


def _outcome(given: Given, draft: Draft, placed: room.Placed) -> Outcome:
    encoded, files = draft.snapshot.encode_with(draft.destinations), draft.files
    packed, hashed = packing.pack(encoded), content_hash(encoded)
    missing = set(draft.snapshot.files) - set(files)
    problem: Finding | None = None
    if missing:
        problem = (Reason.PENDING, f"file {min(missing)} of the last good configuration is gone")
    elif len(packed) > MAX_SNAPSHOT or len(encoded) > packing.LARGEST or placed.left:
        problem = (
            Reason.TOO_LARGE,
            "the configuration is larger than an object can be: use a second MailGateway",
        )
    mount = None
    if problem is None:
        tls_files = {name: content for name, content in files.items() if is_private(name)}
        ca_files = {name: content for name, content in files.items() if name not in tls_files}
        mount = Mount(draft.snapshot, tls_files, ca_files, placed.shards, hashed, encoded, packed)
    return Outcome(
        draft.snapshot,
        hashed,
        mount,
        problem or draft.finding,
        draft.demo,
        draft.listeners,
        draft.controls,
        draft.lists,
        draft.judged,
        given.scaling,
        draft.warnings,
    )


def _sizes(world: World, draft: Draft) -> dict[str, int]:
    """Every file's size; those of older resources come first, and before them what belongs to the gateway itself."""
    ages: dict[str, tuple[datetime, str]] = {}
    for name, one in draft.lists.items():
        if one.trust is not None and name in world.ca_lists:
            ages.setdefault(one.trust.file, _age(world.ca_lists[name].metadata))
    for name, one in draft.judged.items():
        for file in one.files():
            ages.setdefault(file, _age(world.certificates[name].metadata))
    ordered = sorted(draft.files, key=lambda file: ages.get(file, (_EARLY, "")))
    return {file: len(draft.files[file]) for file in ordered}


def _age(metadata: Metadata) -> tuple[datetime, str]:
    return metadata.creation_timestamp or _EARLY, metadata.name


def _without_room(left: frozenset[str], draft: Draft) -> room.Refused:
    """Whose files have no place."""
    if not left:
        return room.Refused()
    return room.Refused(
        frozenset(name for name, one in draft.lists.items() if one.trust and one.trust.file in left),
        frozenset(name for name, one in draft.judged.items() if left & one.files().keys()),
        frozenset(
            secret
            for secret, made in draft.controls.signing.items()
            if isinstance(made, bytes) and file_name(made) in left
        ),
    )


def _lists_as_they_are(
    world: World,
    lists: Mapping[str, Authorities],
    before: Snapshot | None,
    refused: room.Refused,
    now: datetime,
) -> dict[str, Authorities]:
    found: dict[str, Authorities] = {}
    for name in refused.lists:
        snapshots = {before.gateway: before} if before is not None else {}
        earlier = in_place.earlier_list(world, snapshots, name)
        problem = room.finding(len(lists[name].content), "CA lists")
        found[name] = authorities.without_room(lists[name], problem, earlier, now)
    return found


def _certificates_as_they_are(
    judged: Mapping[str, JudgedCertificate], refused: room.Refused
) -> dict[str, JudgedCertificate]:
    found: dict[str, JudgedCertificate] = {}
    for name in refused.certificates:
        largest = max(len(content) for content in judged[name].files().values())
        said = false(Type.READY, room.finding(largest, "certificates"))
        found[name] = replace(judged[name], ready=said, unfit=True)
    return found
