"""What rules give: a verdict is a status with its reason and message, until it becomes a condition."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from letterlock_api.conditions import Condition, Reason, Status, Type, condition

# What a rule finds wrong; a rule that finds nothing gives None.
type Finding = tuple[Reason, str]

# What a message names; how many more there are is enough.
_NAMED: Final = 3


@dataclass(frozen=True)
class Verdict:
    """One condition, not yet stamped."""

    type: Type
    status: Status
    reason: Reason
    message: str

    @property
    def holds(self) -> bool:
        """Whether it is True."""
        return self.status == "True"


def true(kind: Type, reason: Reason, message: str = "") -> Verdict:
    """It is so."""
    return Verdict(kind, "True", reason, message)


def false(kind: Type, finding: Finding) -> Verdict:
    """It is not so, because of `finding`."""
    return Verdict(kind, "False", finding[0], finding[1])


def unknown(kind: Type, finding: Finding) -> Verdict:
    """It could not be told, because of `finding`."""
    return Verdict(kind, "Unknown", finding[0], finding[1])


def accepted(finding: Finding | None) -> Verdict:
    """Accepted, unless something was found."""
    return true(Type.ACCEPTED, Reason.ACCEPTED) if finding is None else false(Type.ACCEPTED, finding)


def stamped(
    verdicts: Iterable[Verdict], generation: int | None, now: datetime, present: Iterable[Condition]
) -> list[Condition]:
    """The verdicts as conditions; those whose status is as in `present` keep its time."""
    before = {one.type: one for one in present}
    return [_stamped(one, generation, now, before.get(one.type)) for one in verdicts]


def _stamped(verdict: Verdict, generation: int | None, now: datetime, before: Condition | None) -> Condition:
    since = before.last_transition_time if before and before.status == verdict.status else now
    return condition(verdict.type, verdict.status, verdict.reason, verdict.message, generation, since)


def listed(parts: Sequence[str]) -> str:
    """For a message: the first three, and how many more there are."""
    return ", ".join(parts[:_NAMED]) + (f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else "")
