"""Who a client is, and whether it may come in: host access and connection limits, told to the log.

Called by `connection`, once the client's address (and names, where they decide) are known.
"""

from collections.abc import Sequence

from letterlock_gateway import values
from letterlock_gateway.receive import limits
from letterlock_gateway.receive.access import Address, Match
from letterlock_gateway.receive.hub import Hub
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.terms import ListenerTerms, Terms


@values.value
class Admitted:
    """What was decided."""

    icid: int
    host: str
    """The client's verified name; empty: none, or not looked up."""
    terms: Terms | None
    """None: not a word is to be said to it."""
    refusal: Reply | None = None
    """The only word to be said to it. Without one, and with terms, it counts until `limits.leave`."""
    counted_as: str = ""
    """Which host it is, for the limits per host."""


def decide(
    hub: Hub,
    listener: ListenerTerms,
    address: Address,
    match: Match | None,
    names: Sequence[str] | None,
    interface: str,
) -> Admitted:
    """Judge a new connection. `names`: None where they were not looked up; `interface`: our own address."""
    icid = hub.next_icid()
    hub.mail_log.counts.add("letterlock_connections_total", listener.name)
    host = names[0] if names else ""
    reverse = ""
    if names is not None:
        reverse = f" reverse dns host {host or 'unknown'} verified {'yes' if host else 'no'}"
    hub.mail_log.info(
        f"New SMTP ICID {icid} interface {listener.name} ({interface}) address {address}{reverse}", icid=icid
    )
    terms = listener.by_policy.get(match.policy) if match is not None else None
    if match is None or terms is None:  # a snapshot's table ends with ALL: this cannot be
        hub.mail_log.info(f"ICID {icid} REJECT SG none", icid=icid)
        return Admitted(icid, host, None)
    behavior = terms.policy.behavior
    hub.mail_log.info(f"ICID {icid} {behavior.upper()} SG {match.group} match {match.sender}", icid=icid)
    if behavior == "TCPRefuse":
        return Admitted(icid, host, None)
    counted_as = limits.host(address, relays=terms.relay)
    refusal = hub.limits.enter(
        listener.name,
        counted_as,
        most=listener.max_concurrency,
        most_of_host=terms.policy.max_connections_per_host,
    )
    if refusal is not None:
        hub.mail_log.info(f"ICID {icid} refused: {refusal.text}", icid=icid)
    return Admitted(icid, host, terms, refusal, counted_as)
