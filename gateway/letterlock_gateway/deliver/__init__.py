"""Delivery: from the spool to next hops, over the TLS that the destination's policy asks for.

Promises: what a policy forbids in clear text never goes in clear text, whatever fails; what was taken is
delivered, waits, or bounces, and is never lost; a slow destination delays no other. `outcomes_table`,
`nexthops`, `references`, `replies`, `retry`, `bounces` and `lanes` are pure. Called by the worker.
"""

from letterlock_gateway.deliver.delivery import Delivery

__all__ = ["Delivery"]
