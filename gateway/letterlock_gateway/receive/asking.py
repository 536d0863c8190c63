"""Asks the directory for a recipient (`acceptQuery`), and puts its word into a reply. Called by `connection`."""

from letterlock_gateway.directory import Unavailable
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.actions import Ask
from letterlock_gateway.receive.hub import Hub
from letterlock_gateway.receive.replies import Reply
from letterlock_gateway.receive.terms import ListenerTerms


async def ask(hub: Hub, listener: ListenerTerms, action: Ask) -> Reply | None:
    """None: the directory knows the recipient. Else the refusal: for good, or, where it gave no answer, for now."""
    if listener.directory is None:  # cannot be: a listener with a query has one
        return replies.DIRECTORY_FAILED
    try:
        known = await hub.directories.get(listener.directory).knows(action.query)
    except Unavailable:
        return replies.DIRECTORY_FAILED
    return None if known else replies.RECIPIENT_UNKNOWN
