"""How much of the world may relay: whether senders, taken together, are everybody (L7). Pure. Called by `listeners`.

Everybody can be written in many ways (`ALL`, `0.0.0.0/0`, two halves, one long range), so what counts is how many
addresses there are in the end.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

_ALL: Final = "ALL"
# Half of a family is no list of hosts of one's own. Of IPv6 only 2000::/3 is given out (RFC 4291 section 2.4).
_FAMILIES: Final = (
    (4, 0, (1 << 32) - 1),
    (
        6,
        int(ipaddress.ip_address("2000::")),
        int(ipaddress.ip_address("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
    ),
)


def everybody(senders: Iterable[str]) -> bool:
    """Whether the senders, as in `senderGroups[].senders`, leave nobody worth mentioning out."""
    given = [one.strip() for one in senders]
    if any(one.upper() == _ALL for one in given):
        return True
    spans = [span for one in given if (span := _span(one)) is not None]
    return any(
        _covered([(low, high) for family, low, high in spans if family == version], first, last)
        for version, first, last in _FAMILIES
    )


def unreadable(sender: str) -> bool:
    """Whether `sender` looks like addresses and stands for none: `10.0.0.999`, `10.0.0.0/33`, a range backwards.

    Taken for a host name, it would match nobody and nobody would be told. No host name ends in a number, nor has it
    a slash or a colon (RFC 1123 section 2.1).
    """
    given = sender.strip()
    span = _span(given)
    if span is not None:
        return span[1] > span[2]
    return "/" in given or ":" in given or given.rstrip(".").rpartition(".")[2].isdigit()


def _covered(spans: Sequence[tuple[int, int]], first: int, last: int) -> bool:
    count, reached = 0, first - 1
    for low, high in sorted(spans):
        begin, end = max(low, reached + 1, first), min(high, last)
        if begin <= end:
            count, reached = count + end - begin + 1, end
    return count * 2 >= last - first + 1


def _span(sender: str) -> tuple[int, int, int] | None:
    """(IP version, lowest, highest) of an address, CIDR, range or partial IPv4 address; None: a name."""
    try:
        low, dash, high = sender.partition("-")
        if dash:
            one, two = ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())
            return (one.version, int(one), int(two)) if one.version == two.version else None
        network = ipaddress.ip_network(_completed(sender), strict=False)
    except ValueError:
        return None
    return network.version, int(network[0]), int(network[-1])


def _completed(sender: str) -> str:
    parts = sender.rstrip(".").split(".")
    if "/" in sender or len(parts) > 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return sender
    return ".".join(parts + ["0"] * (4 - len(parts))) + f"/{8 * len(parts)}"
