"""CA lists, judged: which are in force with what, and what is said of them (A1 to A5).

A list whose text is bad, or cannot be had, keeps what it was: the earlier one stays in force until there is
a better one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from letterlock_api.calist import SYSTEM_LIST, CAList, ExpiringCertificate, RejectedCertificate
from letterlock_api.conditions import Reason, Type
from letterlock_api.snapshot import Snapshot, TrustList, ca_file_name
from letterlock_operator.decide import expiry, imports, in_place
from letterlock_operator.decide.imports import Entry, Text, Usable
from letterlock_operator.decide.in_place import Earlier
from letterlock_operator.decide.verdicts import Finding, Verdict, accepted, false, true, unknown
from letterlock_operator.world import Unreadable, World

MAX_REJECTED: Final = 50
# A ConfigMap ends at 1 MiB, and while a list changes, its old and its new file lie in one.
MAX_CONTENT: Final = 500 * 1024


@dataclass(frozen=True)
class Authorities:
    """A CA list, judged."""

    accepted: Verdict
    ready: Verdict
    content: bytes = b""
    """PEM of all that counts; empty: nothing does."""
    entries: tuple[Entry, ...] = ()
    """What counts, or would if the list were on."""
    pinned: int = 0
    rejected: tuple[RejectedCertificate, ...] = ()
    expiring_next: ExpiringCertificate | None = None
    trust: TrustList | None = None
    """None: switched off, or nothing usable."""
    warnings: tuple[Verdict, ...] = ()
    wake: datetime | None = None
    """When to look again, though nothing happens."""
    gateways: frozenset[str] | None = None
    """Those that it serves; None: all."""

    @property
    def count(self) -> int:
        """How many certificates count."""
        return len(self.entries)

    def serves(self, gateway: str) -> bool:
        """Whether it counts for the members of `gateway`."""
        return self.gateways is None or gateway in self.gateways


@dataclass(frozen=True)
class _Source:
    """A list's text, or why there is none, and what it was before."""

    text: Text
    problem: Verdict | None
    earlier: Earlier | None

    @property
    def roots(self) -> Text:
        """Where intermediates of other lists may find their roots."""
        if self.text.entries or self.earlier is None:
            return self.text
        return imports.read(self.earlier.content)


def judge_all(world: World, snapshots: Mapping[str, Snapshot], now: datetime) -> dict[str, Authorities]:
    """Every CA list of the namespace. `snapshots`: those in place, by gateway."""
    sources = {name: _observed(name, one, world, snapshots) for name, one in world.ca_lists.items()}
    found = {
        name: _judge(name, one, sources[name], _others(name, world, sources), now)
        for name, one in world.ca_lists.items()
    }
    for one in world.invalid:
        earlier = in_place.earlier_list(world, snapshots, one.name) if one.kind == "CAList" else None
        if earlier is not None:
            finding = (Reason.INVALID, one.problem)
            found[one.name] = _in_force_still(accepted(finding), false(Type.READY, finding), earlier, now)
    return found


def usable(name: str, text: Text, world: World, now: datetime) -> Usable:
    """What of `text` would count in list `name` of `world`: for those who import it (A5)."""
    sources = {other: _observed(other, one, world, {}) for other, one in world.ca_lists.items()}
    return imports.usable(text, _others(name, world, sources), now)


def source(name: str, world: World) -> bytes | Verdict:
    """The text of list `name` of `world`, or why there is none."""
    return _source(world.ca_lists[name], world)


def _observed(name: str, one: CAList, world: World, snapshots: Mapping[str, Snapshot]) -> _Source:
    source = _source(one, world)
    text, problem = (imports.NOTHING, source) if isinstance(source, Verdict) else (imports.read(source), None)
    return _Source(text, problem, in_place.earlier_list(world, snapshots, name))


def _others(name: str, world: World, sources: Mapping[str, _Source]) -> list[Text]:
    """The enabled lists beside this one that count wherever it does."""
    mine = world.ca_lists[name].spec.gateway_ref
    return [
        sources[other].roots
        for other, one in sorted(world.ca_lists.items())
        if other != name
        and one.spec.enabled
        and (one.spec.gateway_ref is None or (mine is not None and one.spec.gateway_ref.name == mine.name))
    ]


def _judge(name: str, ca_list: CAList, source: _Source, others: list[Text], now: datetime) -> Authorities:
    finding = _wrong_type(name, ca_list)
    if finding is not None:
        return Authorities(accepted(finding), false(Type.READY, finding))
    reference = ca_list.spec.gateway_ref
    gateways = None if reference is None else frozenset({reference.name})
    usable = imports.usable(source.text, others, now)
    problem = source.problem or _problem(usable)
    if problem is None:
        judged = _in_force(ca_list, usable, now)
    elif source.earlier is None or not ca_list.spec.enabled:
        judged = Authorities(accepted(None), problem)
    else:
        earlier = replace(source.earlier, is_global=ca_list.spec.scope == "Global")
        judged = _in_force_still(accepted(None), problem, earlier, now)
    rejected = usable.rejected[:MAX_REJECTED]
    # A text that cannot be had now may be there in a moment; one that expires piece by piece changes by itself.
    wake = expiry.next_change(source.text.entries, now)
    moments = [one for one in (wake, judged.wake) if one is not None]
    return replace(judged, rejected=rejected, gateways=gateways, wake=min(moments, default=None))


def _in_force(ca_list: CAList, usable: Usable, now: datetime) -> Authorities:
    ready, trust, warning = true(Type.READY, Reason.READY), None, None
    if ca_list.spec.enabled:
        is_global = ca_list.spec.scope == "Global"
        trust = TrustList(file=ca_file_name(usable.content), is_global=is_global)
        warning = expiry.warning(usable.entries, now)
    else:
        ready = true(Type.READY, Reason.DISABLED, "switched off: none of its certificates is trusted")
    return Authorities(
        accepted(None),
        ready,
        content=usable.content,
        entries=usable.entries,
        pinned=usable.pinned,
        expiring_next=expiry.ends_next(usable.entries),
        trust=trust,
        warnings=(warning,) if warning else (),
    )


def _in_force_still(judged: Verdict, problem: Verdict, earlier: Earlier, now: datetime) -> Authorities:
    """The list as members have it: `problem` says why it is not what it should be."""
    entries = imports.read(earlier.content).entries
    usable = Usable(tuple(sorted(entries, key=lambda one: one.fingerprint)), ())
    certificates = "1 certificate" if len(entries) == 1 else f"{len(entries)} certificates"
    said = replace(problem, message=f"{problem.message}; the earlier list ({certificates}) stays in force")
    warning = expiry.warning(usable.entries, now)
    return Authorities(
        judged,
        said,
        content=earlier.content,
        entries=usable.entries,
        pinned=usable.pinned,
        expiring_next=expiry.ends_next(usable.entries),
        trust=TrustList(file=ca_file_name(earlier.content), is_global=earlier.is_global),
        warnings=(warning,) if warning else (),
        wake=expiry.next_change(usable.entries, now),
        gateways=earlier.gateways,
    )


def without_room(one: Authorities, problem: Finding, earlier: Earlier | None, now: datetime) -> Authorities:
    """The list, where there is no room for it among what members mount: as they have it, or not at all."""
    said = false(Type.READY, problem)
    if earlier is None or one.trust is None:
        nothing = Authorities(one.accepted, said)
    else:
        earlier = replace(earlier, is_global=one.trust.is_global)
        nothing = _in_force_still(one.accepted, said, earlier, now)
    return replace(nothing, rejected=one.rejected, gateways=one.gateways, wake=one.wake)


def _wrong_type(name: str, ca_list: CAList) -> Finding | None:
    if ca_list.spec.type == "System" and name != SYSTEM_LIST:
        return Reason.INVALID, f"type System is only for the list named {SYSTEM_LIST}: use Custom"
    return None


def _problem(usable: Usable) -> Verdict | None:
    """Why nothing of a text can be taken."""
    if not usable.entries:
        text = "no certificate in it can be used: see status.rejected"
        return false(Type.READY, (Reason.EMPTY, text if usable.rejected else "it holds no certificate, PEM"))
    if len(usable.content) > MAX_CONTENT:
        text = f"its certificates are more than {MAX_CONTENT // 1024} KiB, PEM: make several lists of it"
        return false(Type.READY, (Reason.TOO_LARGE, text))
    return None


def _source(ca_list: CAList, world: World) -> bytes | Verdict:
    spec = ca_list.spec
    if spec.type == "System":
        return world.system_roots
    if spec.certificates is not None:
        return spec.certificates.encode()
    if spec.certificates_from is None:
        return false(Type.READY, (Reason.EMPTY, "neither certificates nor certificatesFrom is set"))
    kind, reference, keeps = _reference(ca_list, world)
    if reference is None:
        return false(
            Type.READY, (Reason.SOURCE_NOT_FOUND, "certificatesFrom names neither ConfigMap nor Secret")
        )
    found = keeps.get(reference.name)
    if isinstance(found, Unreadable):
        return unknown(
            Type.READY, (Reason.PENDING, f"{kind} {reference.name} cannot be read: {found.problem}")
        )
    if found is None:
        return false(Type.READY, (Reason.SOURCE_NOT_FOUND, f"there is no {kind} {reference.name}"))
    if reference.key not in found.data:
        return false(
            Type.READY, (Reason.SOURCE_NOT_FOUND, f"{kind} {reference.name} has no key {reference.key}")
        )
    return found.data[reference.key]


def _reference(ca_list: CAList, world: World):  # noqa: ANN202 - a private triple
    source = ca_list.spec.certificates_from
    if source is not None and source.secret_key_ref is not None:
        return "Secret", source.secret_key_ref, world.secrets
    return "ConfigMap", source.config_map_key_ref if source else None, world.config_maps


def ca_files(lists: Mapping[str, Authorities], names: frozenset[str]) -> dict[str, bytes]:
    """The files of the named lists that are enabled."""
    return {
        one.trust.file: one.content for name, one in lists.items() if name in names and one.trust is not None
    }
