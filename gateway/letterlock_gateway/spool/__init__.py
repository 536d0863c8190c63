"""The spool of one worker: what got its 250 lies here, on disk, until it is delivered or bounced.

Promises: `store` returns only when the message has been synced; one writer thread commits many stores and
updates with one sync; a process that dies at any moment leaves a spool that the next one opens and finds
complete. The same database answers where a message is or went. Used by `receive` (store) and `deliver`
(everything else).
"""

from letterlock_gateway.spool.changes import Hop
from letterlock_gateway.spool.contents import Content, Traits
from letterlock_gateway.spool.drafts import Draft
from letterlock_gateway.spool.failures import SpoolClosed, SpoolFailed, SpoolFull
from letterlock_gateway.spool.handed import Handed, HandedRecipient
from letterlock_gateway.spool.messages import NewMessage, NewRecipient, Queued, Waiting, domain_of
from letterlock_gateway.spool.spool import Spool, Stored

__all__ = [
    "Content",
    "Draft",
    "Handed",
    "HandedRecipient",
    "Hop",
    "NewMessage",
    "NewRecipient",
    "Queued",
    "Spool",
    "SpoolClosed",
    "SpoolFailed",
    "SpoolFull",
    "Stored",
    "Traits",
    "Waiting",
    "domain_of",
]
