"""The arguments of commands: strict parsing of what follows the verb. Pure.

RFC 5321 section 4.1, RFC 1870 (SIZE), 3461 (DSN), 6152 (8BITMIME), 6531 (SMTPUTF8). Each function gives its
values, or the Reply that refuses them.
"""

import re
from typing import Final

from letterlock_gateway import values
from letterlock_gateway.receive import paths, replies
from letterlock_gateway.receive.paths import Path
from letterlock_gateway.receive.replies import Reply

_HELLO: Final = re.compile(r"[\x21-\x7e\u00a1-\U0010ffff]{1,255}")
# esmtp-value without "=", with UTF-8 as RFC 6531 section 3.7.3 (3) allows it in ORCPT.
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\u00a1-\U0010ffff]+))?")
_XTEXT: Final = r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e\u00a1-\U0010ffff]|\+[0-9A-F]{2})"
_ENVID: Final = re.compile(rf"{_XTEXT}{{1,100}}")
# "=" cannot stand in an xtext, so `rfc822;user=a@b` comes as `+3D`.
_ORCPT: Final = re.compile(rf"[A-Za-z0-9.-]+;{_XTEXT}+")
_MAX_ORCPT: Final = 500
_SIZE: Final = re.compile(r"[0-9]{1,20}")
_NOTIFY: Final = {"SUCCESS", "FAILURE", "DELAY"}


@values.value
class Mail:
    """MAIL."""

    path: Path
    size: int = 0
    smtputf8: bool = False
    body_8bit: bool = False
    ret: str = ""
    envid: str = ""


@values.value
class Rcpt:
    """RCPT."""

    path: Path
    notify: str = ""
    orcpt: str = ""


def hello(argument: str) -> str | Reply:
    """The client's name in EHLO or HELO. Any visible text: real clients send what is not a host name."""
    name = argument.strip(" ")
    return name if _HELLO.fullmatch(name) else replies.HELLO_SYNTAX


def mail(argument: str) -> Mail | Reply:
    """What follows `MAIL `."""
    found = _path(argument, "FROM:")
    if found is None:
        return replies.MAIL_SYNTAX if argument[:5].upper() != "FROM:" else replies.BAD_SENDER
    path, rest = found
    if not rest:
        return Mail(path)
    parameters = _parameters(rest)
    if isinstance(parameters, Reply):
        return parameters
    size, body, ret, envid = "0", "7BIT", "", ""
    smtputf8 = False
    for keyword, value in parameters.items():
        match keyword, value:
            case "SIZE", str() if _SIZE.fullmatch(value):
                size = value
            case "BODY", str() if value.upper() in {"7BIT", "8BITMIME"}:
                body = value.upper()
            case "SMTPUTF8", None:
                smtputf8 = True
            case "RET", str() if value.upper() in {"FULL", "HDRS"}:
                ret = value.upper()
            case "ENVID", str() if _ENVID.fullmatch(value):
                envid = value
            case (("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID"), _):
                return replies.BAD_PARAMETER
            case _:
                return replies.UNKNOWN_PARAMETER
    return Mail(path, int(size), smtputf8, body == "8BITMIME", ret, envid)


def rcpt(argument: str) -> Rcpt | Reply:
    """What follows `RCPT `."""
    found = _path(argument, "TO:")
    if found is None:
        return replies.RCPT_SYNTAX if argument[:3].upper() != "TO:" else replies.BAD_RECIPIENT
    path, rest = found
    if not path.local:
        return replies.BAD_RECIPIENT
    if not rest:
        return Rcpt(path)
    parameters = _parameters(rest)
    if isinstance(parameters, Reply):
        return parameters
    notify = orcpt = ""
    for keyword, value in parameters.items():
        match keyword, value:
            case "NOTIFY", str() if _is_notify(value):
                notify = value.upper()
            case "ORCPT", str() if len(value) <= _MAX_ORCPT and _ORCPT.fullmatch(value):
                orcpt = value
            case (("NOTIFY" | "ORCPT"), _):
                return replies.BAD_PARAMETER
            case _:
                return replies.UNKNOWN_PARAMETER
    return Rcpt(path, notify, orcpt)


def _path(argument: str, keyword: str) -> tuple[Path, str] | None:
    if argument[: len(keyword)].upper() != keyword:
        return None
    # A space after the colon is not allowed, but many programs send one, and nothing depends on it.
    found = paths.parse(argument[len(keyword) :].lstrip(" "))
    return found if found is None or not found[1] or found[1].startswith(" ") else None


def _parameters(text: str) -> dict[str, str | None] | Reply:
    """Keywords in capitals; values as they are."""
    parameters: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in parameters:
            return replies.BAD_PARAMETER
        parameters[match[1].upper()] = match[2]
    return parameters


def _is_notify(value: str) -> bool:
    words = value.upper().split(",")
    return words == ["NEVER"] or (set(words) <= _NOTIFY and len(words) == len(set(words)))
