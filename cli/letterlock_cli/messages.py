"""Messages as commands show them: found on several members, in tables and for machines. Pure but for printing.

Called by `queue_commands` and `track_command`.
"""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from letterlock_cli.failures import CommandError
from letterlock_cli.members import Answer
from letterlock_cli.output import print_table

type Message = dict[str, Any]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE: Final = re.compile(r"([0-9]{1,6})([smhd])")


def found_in(answers: Sequence[Answer]) -> list[Message]:
    """The messages that members found, latest first, each with its member."""
    found = [
        {"member": one.member, **message} for one in answers for message in one.content.get("messages", ())
    ]
    return sorted(found, key=lambda one: one["receivedAt"], reverse=True)


def report(answers: Sequence[Answer]) -> None:
    """Name the members that could not be asked; raise CommandError if that are all of them."""
    silent = [one for one in answers if one.problem]
    for one in silent:
        print(f"warning: {one.member}: {one.problem}", file=sys.stderr)
    if silent and len(silent) == len(answers):
        raise CommandError("no member could be asked")


def since_when(given: str | None) -> float | None:
    """Unix seconds of `--since`: an age (`2h`) or a time (`2026-01-31T12:00`, UTC unless it says else)."""
    if given is None:
        return None
    if found := _AGE.fullmatch(given):
        return datetime.now(UTC).timestamp() - int(found[1]) * _UNITS[found[2]]
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise CommandError(
            f"--since {given}: write an age, as in 30m, 2h or 3d, or a time, as in 2026-01-31T12:00"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def print_message(message: Message) -> None:
    """All that is known of one message, one field a line, then a line per recipient."""
    rows = [
        ("member", message["member"]),
        ("mid", str(message["mid"])),
        ("message id", message.get("messageID", "-")),
        ("from", f"<{message['sender']}>"),
        ("received", f"{message['receivedAt']} {_came(message)}"),
        ("size", f"{message.get('size', 0)} bytes"),
    ]
    if "about" in message:
        rows.append(("tells of", f"MID {message['about']}"))
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        print(f"{key.ljust(width)}   {value}")
    headings = ("TO", "STATE", "AT", "HOST", "TLS", "REPLY OR REASON")
    print_table(headings, [_hop(one) for one in message["recipients"]], "")
    print()


def _came(message: Message) -> str:
    source = str(message.get("receivedFrom") or "")
    if not source:
        return "made here"
    if not message.get("icid"):  # from a member that has gone: its name and number there, then who brought it
        *members, first = source.split(", ")
        if "[" not in first:
            return f"made at {', '.join([*members, first])}"
        source = f"{first}, handed on by {', '.join(members)},"
    over: Message = message.get("receivedOver") or {}
    tls = (
        f"over {over['protocol']} {over.get('cipher', '')}".rstrip()
        if over.get("protocol")
        else "in clear text"
    )
    return f"from {source} {tls}" + (f", ICID {message['icid']}" if message.get("icid") else "")


def _hop(one: Message) -> Sequence[str]:
    at = one.get("finishedAt") or (f"next try {one['nextAttempt']}" if one["state"] == "deferred" else "-")
    host = " ".join(part for part in (one.get("host", ""), f"[{one['ip']}]" if "ip" in one else "") if part)
    return (
        f"<{one['address']}>",
        one["state"],
        at,
        host or "-",
        over_which_tls(one),
        only(one.get("reply", "-"), 200),
    )


def over_which_tls(one: Message) -> str:
    """How a recipient's mail was delivered: protocol, cipher, the name that was verified."""
    if one["state"] != "delivered":
        return "-"
    if "protocol" not in one:
        return "clear text"
    verified = f"verified {one.get('matchedName', '')}".rstrip() if one.get("verified") else "not verified"
    return f"{one['protocol']} {one.get('cipher', '')} {verified}".replace("  ", " ")


def only(words: str, length: int) -> str:
    """Text on one line, cut."""
    line = " ".join(words.split())
    return line if len(line) <= length else line[: length - 1] + "…"
