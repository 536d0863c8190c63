"""Statuses that wait a moment, for something else is to be said at once: a change is then one or two writes, not three.

Called by `statuses`. What stands meanwhile is what was said before, with the generation that it was said of: nothing
becomes True here that is not.
"""

import time
from collections.abc import Mapping
from typing import Any, Final, cast

from letterlock_api.conditions import Reason, Type
from letterlock_operator.api import Object

# Seconds. Members take most changes within one (docs/performance.md), and on a busy machine within some.
_PATIENCE: Final = 5.0
_ON_THE_WAY: Final = frozenset({Reason.PENDING, Reason.MEMBERS_BEHIND})


def since(
    before: float | None, wanted: Object, present: Object, now: float, *, reissued: bool
) -> float | None:
    """Since when (monotonic seconds) `wanted` waits to be written in the place of `present`. None: it is written now.

    `before`: since when it did at the last look. `reissued`: whether a key or certificate that it tells of was written
    after it was decided, so that the next decision is about another one.
    """
    if not (reissued or _only_on_the_way(wanted, present)):
        return None
    if before is None:
        return now
    return before if now < before + _PATIENCE else None


def ends_in(held: Mapping[tuple[str, str], float]) -> float:
    """The seconds until the first of them is written whatever comes. `held`: since when statuses wait."""
    return min(held.values(), default=float("inf")) + _PATIENCE - time.monotonic()


def _only_on_the_way(wanted: Object, present: Object) -> bool:
    """Whether all that is new is how far a snapshot has come, and members that run another one have yet to take it."""
    members = cast("list[Object]", wanted.get("members") or [])
    run = {one["snapshot"] for one in members if one.get("snapshot")}
    if "snapshot" in wanted and run <= {wanted["snapshot"]}:
        return False
    return bool(present) and _at_rest(wanted) == _at_rest(present)


def _at_rest(status: Object) -> dict[str, Any]:
    """What of a status stays the same while a snapshot is on its way to the members."""
    rest = {key: value for key, value in status.items() if key != "snapshot"}
    if "snapshot" in status and "members" in status:
        rest["members"] = [{**one, "snapshot": ""} for one in status["members"]]
    rest["conditions"] = [_without_words(one) for one in status.get("conditions") or ()]
    return rest


def _without_words(one: Object) -> Object:
    waiting = one.get("status") == "False" and one.get("reason") in _ON_THE_WAY
    return {**one, "reason": "", "message": ""} if waiting and one.get("type") == Type.PROGRAMMED else one
