"""The views: a module for each page, and the list of them all. Called by `site`."""

from typing import Final

from letterlock_gateway.web.views import (
    alerts,
    authorities,
    certificates,
    destinations,
    listeners,
    messages,
    overview,
    queue,
)
from letterlock_gateway.web.views.view import View

VIEWS: Final[tuple[View, ...]] = (
    *overview.VIEWS,
    *listeners.VIEWS,
    *destinations.VIEWS,
    *certificates.VIEWS,
    *authorities.VIEWS,
    *messages.VIEWS,
    *queue.VIEWS,
    *alerts.VIEWS,
)
__all__ = ["VIEWS", "View"]
