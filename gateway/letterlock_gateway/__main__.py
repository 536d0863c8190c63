"""`python -m letterlock_gateway`: a member without the rest of the command line."""

import sys

from letterlock_gateway import supervisor
from letterlock_gateway.options import parse

if __name__ == "__main__":
    sys.exit(supervisor.run(parse()))
