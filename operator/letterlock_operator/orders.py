"""What each order of a plan puts into its Secret. Called by `act.keys`, in a worker process, and by `letterlock up`."""

from collections.abc import Mapping
from datetime import datetime

from letterlock_operator import issuing, pkcs12
from letterlock_operator.plan import Export, Import, Install, Issue, IssueInternal, SecretOrder
from letterlock_operator.world import Keep


def data(order: SecretOrder | IssueInternal, present: Keep | None, now: datetime) -> Mapping[str, bytes]:
    """The data of the Secret. `present`: the Secret as it is.

    Raises Refused for a file that cannot be imported, ValueError for what cannot be made.
    """
    match order:
        case IssueInternal():
            return issuing.issue_internal(order.gateway, now)
        case Issue():
            return issuing.issue(order, present, now)
        case Install():
            if present is None:
                raise ValueError("the Secret has gone")
            return issuing.install(order, present)
        case Import():
            return pkcs12.opened(order, now)
        case Export():
            return {one.name: pkcs12.write(one) for one in order.files}


def owner(order: SecretOrder | IssueInternal) -> str:
    """`Kind/name` of the resource that owns the Secret."""
    return f"MailGateway/{order.gateway}" if isinstance(order, IssueInternal) else order.owner
