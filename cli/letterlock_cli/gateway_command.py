"""`letterlock gateway`: from the command's options to the gateway's own. Called by `main`."""

import sys
from collections.abc import Mapping
from typing import Any

from letterlock_gateway import supervisor
from letterlock_gateway.options import Options


def run(parent: int | None, options: Mapping[str, Any]) -> None:
    """Run a member until SIGTERM and exit with its status. What was not said has the gateway's defaults."""
    if parent is not None:
        from letterlock_cli.up.processes import end_with_parent

        end_with_parent(parent)
    said = {name: value for name, value in options.items() if value is not None}
    sys.exit(supervisor.run(Options(**said)))
