"""What the spool reads of a message's header. Pure; called by `spool` for each new message."""

import re
from typing import Final

# As far as anybody looks: a header this long is no mail program's.
_LIMIT: Final = 64 * 1024
_MESSAGE_ID: Final = re.compile(
    rb"^Message-ID:[ \t]*(?:\r\n[ \t]+)?(<[^<>\r\n]{1,990}>)", re.IGNORECASE | re.MULTILINE
)


def of(start: bytes) -> bytes:
    """The header of a message that begins with `start`, with the empty line behind it; empty: it does not end there."""
    end = start.find(b"\r\n\r\n")
    return start[: end + 4] if end >= 0 else b""


def message_id(body: bytes) -> str:
    """The Message-ID with its angle brackets (RFC 5322 section 3.6.4); empty: there is none."""
    end = body.find(b"\r\n\r\n", 0, _LIMIT)
    found = _MESSAGE_ID.search(body, 0, _LIMIT if end < 0 else end)
    return found[1].decode("utf-8", "replace") if found else ""
