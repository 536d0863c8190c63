"""What delivery would do, in few words: for `letterlock check` and for the management pages. Pure.

Takes the values of `findings`.
"""

from collections.abc import Mapping
from typing import Any, Final

SOURCES: Final[Mapping[str, str]] = {
    "Recipient": "the recipient domain",
    "Route": "the route's host",
    "MX": "the MX host",
    "Reverse": "the host's reverse name",
    "Explicit": "spec.tls.names",
}


def what_happens(ending: Mapping[str, Any]) -> str:
    """One ending, in few words."""
    if not ending["delivered"]:
        return f"not delivered, {ending['then']} ({ending['status']})"
    host = f"{ending['host']}"
    if ending["address"] not in host:
        host += f" [{ending['address']}]"
    if not ending["encrypted"]:
        return f"delivered in clear text to {host}"
    if ending["verified"]:
        source = SOURCES[ending["nameSource"]]
        return f"delivered encrypted to {host}, verified by {ending['matchedName']} ({source})"
    how = "not verified" if "notVerified" in ending else "not checked"
    return f"delivered encrypted to {host}, {how}"
