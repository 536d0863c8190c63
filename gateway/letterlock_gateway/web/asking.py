"""`python -m letterlock_gateway.web.asking SPOOL`: answers one request from stdin on stdout, as JSON.

Run by `sources` for what a page asks about a domain (`manage.checking`): a check uses our certificate and sign-ins at
next hops, and the process that talks to browsers shall not hold them. It ends with that one answer.
"""

import json
import signal
import sys
from pathlib import Path

from letterlock_gateway.manage import control, lookup
from letterlock_gateway.mount import MountRefused
from letterlock_gateway.nursery import end_with_parent
from letterlock_gateway.spool.tracking import SpoolUnreadable


def main() -> None:
    """Answer. Exit status 1, with one line on stderr, where there is no answer."""
    end_with_parent("letterlock-ask", signal.SIGKILL)
    try:
        found = lookup.answer(Path(sys.argv[1]), json.load(sys.stdin))
    except (SpoolUnreadable, control.NotRunning, MountRefused) as problem:
        sys.exit(str(problem))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
