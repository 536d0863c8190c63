"""Taking mail in: listeners, host access, STARTTLS, the SMTP session, and the hand-over to the spool.

Promises: a 250 after DATA means that the message is on disk; nothing is taken in clear text where TLS is
required; a change of the configuration touches no session in progress. Everything but `connection`,
`reception`, `sockets` and `hosts` is pure: no sockets, no clock, no event loop. Called by the worker.
"""

from letterlock_gateway.receive.reception import Reception

__all__ = ["Reception"]
