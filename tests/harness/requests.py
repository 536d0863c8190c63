"""Requests that an API server has counted: what an operator costs it, and that it writes nothing without need."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tests.harness.apiserver import Kubectl

_REQUESTS: Final = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
WRITES: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})

type Requests = Counter[tuple[str, str]]
"""By verb and resource, with group and subresource: `APPLY`, `listeners.letterlock.dev/status`."""


def so_far(kubectl: Kubectl) -> Requests:
    """All of all clients, as the API server's own metrics say."""
    found: Requests = Counter()
    for labels, value in _REQUESTS.findall(kubectl("get", "--raw", "/metrics")):
        of: dict[str, str] = dict(_LABEL.findall(labels))
        what = f"{of['resource']}.{of['group']}".removesuffix(".")
        what += f"/{of['subresource']}" if of["subresource"] else ""
        found[of["verb"], what] += int(float(value))
    return found


def written(requests: Requests, endings: Iterable[str] = ("",)) -> int:
    """How many of them write something whose name has one of the `endings`."""
    some = tuple(endings)
    return sum(count for (verb, what), count in requests.items() if verb in WRITES and what.endswith(some))
