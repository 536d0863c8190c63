"""What the pages of one member may ask those of another: five questions, all of which only read. Pure.

`Look` is the question, as JSON between members; `web.sources` answers it of its own member, `web.others` asks it of
the others. Answers are bounded by what a page shows: a stranger who sends much mail makes none of them longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from letterlock_api.state import DestinationState, MemberState
from letterlock_gateway.spool.tracking import Found, Query

# Rows of one list of messages, or of what waits.
ROWS: Final = 100
# Recipients of one message on its own page.
RECIPIENTS: Final = 500
# Destinations that fail, and those that a page shows beside them.
_FAILING: Final = 500
_NAMES: Final = 64
_WAITS: Final = frozenset({"queued", "deferred"})

type _Text = Annotated[str, Field(max_length=1024)]


class Search(BaseModel):
    """Which messages: the part of `tracking.Query` that the pages use."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    mid: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    sender: _Text | None = None
    recipient: _Text | None = None
    message_id: _Text | None = None
    since: float | None = None
    waiting: bool = False

    def query(self) -> Query:
        """As spools are asked."""
        return Query(
            mids=() if self.mid is None else (self.mid,),
            sender=self.sender,
            recipient=self.recipient,
            message_id=self.message_id,
            since=self.since,
            waiting=self.waiting,
            limit=ROWS,
        )


class Look(BaseModel):
    """One question."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    do: Literal["state", "traffic", "waiting", "find", "told"]
    resources: Annotated[list[_Text], Field(max_length=_NAMES)] = []
    """Of `state`: destinations that are told of also where nothing fails."""
    search: Search = Search()
    """Of `find`."""


@dataclass(frozen=True)
class Part[Value]:
    """What one member says."""

    member: str
    value: Value | None
    problem: str = ""
    """For people: why there is nothing. "Could not be read" is never "nothing there"."""


def brief(state: MemberState, resources: Sequence[str] = ()) -> MemberState:
    """A state without what pages do not show: digests, and destinations that do well and were not asked for."""
    wanted = frozenset(resources)
    failing: list[DestinationState] = []
    others: list[DestinationState] = []
    for one in state.destinations:
        if one.failing:
            failing.append(one)
        elif one.resource in wanted:
            others.append(one)
    return state.model_copy(update={"digests": {}, "destinations": [*failing[:_FAILING], *others]})


def rows(found: Sequence[Found], search: Search) -> list[Found]:
    """`found` with no more recipients than a page shows: all that wait, the first, or those of one message.

    `recipientCount` says how many there are.
    """
    left = ROWS
    kept: list[Found] = []
    for message in found:
        recipients: list[Mapping[str, Any]] = message["recipients"]
        if search.waiting:
            recipients = [one for one in recipients if one["state"] in _WAITS]
            shown = recipients[:left]
            left -= len(shown)
        else:
            shown = recipients[: RECIPIENTS if search.mid is not None else 1]
        kept.append({**message, "recipients": shown, "recipientCount": len(recipients)})
    return kept
