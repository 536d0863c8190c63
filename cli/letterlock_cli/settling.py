"""Waits until what a command wrote is in force, and says meanwhile what it waits for. Called by upload and import."""

import sys
import time
from typing import Final

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, condition, items, part, texts
from letterlock_cli.source import Where, resource, up_runs

# Between two looks, s: a certificate is opened and served within some.
_LOOK: Final = 0.5
# Of Programmed: nobody is there to serve it yet.
_NOBODY: Final = "NoMembers"


def settle(where: Where, name: str, fingerprint: str, member: str, seconds: int) -> Object | None:
    """The Certificate once the one with this fingerprint is in force; None: nobody is there who would take it.

    Raises CommandError where it is not in force after that many seconds: with what is said of it then.
    """
    if where.directory is not None and not up_runs(where):
        print(f"`letterlock up {where.directory}` takes it when it runs", file=sys.stderr)
        return None
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        # What else is wrong in a folder is said once.
        item, said = _look(where, name, fingerprint, member, quiet=bool(told))
        if not said:
            return item
        if said != told:
            print(f"waiting: {said}", file=sys.stderr)
            told = said
        if time.monotonic() > deadline:
            raise CommandError(f"written, but not in force after {seconds} s: {said}")
        time.sleep(_LOOK)


def served(item: Object) -> list[tuple[str, str]]:
    """What the status says of a certificate that is in force."""
    status = part(item, "status")
    return [
        ("served by", ", ".join(texts(status, "usedBy")) or "nothing yet: name it where it shall be used"),
        ("programmed", _said(item, "Programmed")),
    ]


def _look(where: Where, name: str, fingerprint: str, member: str, *, quiet: bool) -> tuple[Object, str]:
    """The Certificate, and what is still to come; empty: nothing. Raises CommandError where it is not accepted."""
    try:
        item = resource(where, "Certificate", name, quiet=quiet)
    except CommandError as error:
        return {}, str(error)
    accepted = condition(item, "Accepted")
    current = accepted.get("observedGeneration") == item["metadata"].get("generation")
    if current and accepted.get("status") == "False":
        raise CommandError(f"written, but {accepted['reason']}: {accepted.get('message', '')}")
    status = part(item, "status")
    found = [
        one.get("fingerprint") for one in items(status, "members") if not member or one["name"] == member
    ]
    if fingerprint not in (found or [status.get("fingerprint")]):
        first = condition(item, "Ready")
        if first.get("status") == "True":
            return item, "the earlier certificate is still in use"
        return item, f"Ready: {_said(item, 'Ready')}"
    ready, programmed = condition(item, "Ready"), condition(item, "Programmed")
    if ready.get("status") != "True":
        return item, f"Ready: {_said(item, 'Ready')}"
    if programmed.get("status") != "True" and programmed.get("reason") != _NOBODY:
        return item, f"Programmed: {_said(item, 'Programmed')}"
    return item, ""


def _said(item: Object, kind: str) -> str:
    one = condition(item, kind)
    if not one:
        return "not judged yet"
    message = " ".join(str(one.get("message", "")).split())
    return f"{one['status']} ({one['reason']})" + (f": {message}" if message else "")
