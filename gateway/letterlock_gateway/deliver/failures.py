"""Why a recipient was not delivered, as one value: made where it happens, told by `settling` and `bounces`."""

from dataclasses import replace
from typing import Self

from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway import values
from letterlock_gateway.deliver import outcomes_table
from letterlock_gateway.deliver.nexthops import NotNow, Undeliverable
from letterlock_gateway.deliver.outcomes_table import Decision, Event
from letterlock_gateway.deliver.replies import Reply


@values.value
class Failure:
    """A failure of a host, or a refusal of a recipient."""

    permanent: bool
    status: str
    """Enhanced status code, RFC 3463."""
    text: str
    """For people."""
    host: str = ""
    """The next hop; empty: it came to none."""
    address: str = ""
    reply: str = ""
    """What the next hop said; empty: nothing."""
    event: Event | None = None
    """Of the outcome table; None: the failure has nothing to do with the connection."""
    over_tls: bool = False
    """Whether the mail would have gone, or went, encrypted."""

    @property
    def is_tls(self) -> bool:
        """Whether TLS is the reason."""
        return self.event is not None and self.event not in outcomes_table.NOT_ABOUT_TLS

    @classmethod
    def of_event(cls, event: Event, detail: str, *, host: str, address: str, reply: str = "") -> Self:
        """A host that was given up for what the outcome table calls `event`."""
        text = f"{event}: {detail}" if detail else str(event)
        return cls(False, outcomes_table.status(event), text, host, address, reply, event)

    @classmethod
    def of_reply(
        cls, reply: Reply, mode: ResolvedTLSMode, *, host: str, address: str, over_tls: bool
    ) -> Self:
        """A refusal by the next hop."""
        event = Event.REFUSED if reply.kind == 5 else Event.DEFERRED
        permanent = outcomes_table.decide(mode, event) is Decision.BOUNCE
        status = reply.status if reply.kind in (4, 5) else "4.5.0"  # any other code has no place there
        return cls(permanent, status, str(reply), host, address, str(reply), event, over_tls)

    def final(self) -> Self:
        """The same when time is up: the bounce says so, and that TLS was the reason where it was."""
        if self.permanent:
            return self
        why = "TLS was required but could not be negotiated" if self.is_tls else "last attempt"
        status = "5" + self.status[1:] if self.is_tls else "5.4.7"
        text = f"delivery time expired; {why}: {self.text}"
        return replace(self, permanent=True, status=status, text=text)


def most_telling(failures: list[Failure]) -> Failure:
    """Of the failures of several hosts the one to report: the last that TLS was the reason of, else the last."""
    return next((one for one in reversed(failures) if one.is_tls), failures[-1])


def reported(failures: list[Failure]) -> Failure:
    """Of the failures of all next hops the one that says what becomes of the mail: it waits where one may pass."""
    temporary = [one for one in failures if not one.permanent]
    return most_telling(temporary or failures or [Failure(False, "4.4.4", "there is no next hop")])


def of_look_up(problem: NotNow | Undeliverable, host: str = "") -> Failure:
    """A look-up that came to nothing: of the domain's next hops, or of the addresses of `host`."""
    return Failure(isinstance(problem, Undeliverable), problem.status, str(problem), host)
