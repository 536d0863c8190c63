"""The views: a module for each page, and the list of them all. Called by `site`."""

from typing import Final

from letterlock_gateway.web.views import listeners, overview
from letterlock_gateway.web.views.view import View

VIEWS: Final[tuple[View, ...]] = (
    *overview.VIEWS,
    *listeners.VIEWS,
)
__all__ = ["VIEWS", "View"]
