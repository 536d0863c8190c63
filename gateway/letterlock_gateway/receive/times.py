"""How long a client may take, in seconds (RFC 5321 section 4.5.3.2). Pure.

Used by the shell around sessions. Tests set these values; nothing keeps a copy of them.
"""

# Commands: "at least 5 minutes while it is awaiting the next command" (section 4.5.3.2.7).
IDLE = 300.0
# Each block of text (section 4.5.3.2.5).
BLOCK = 180.0
# A whole text, however its blocks come: this long, and on top of it as long as its octets take at the slowest
# rate (octets a second). One octet before each block's time is up would otherwise hold a connection for ever.
TEXT = 600.0
SLOWEST = 500.0
HANDSHAKE = 60.0
# For those from whom nothing is taken, for PROXY headers, for names, and for closing (under TLS politely).
SHORT = 30.0
NEVER = float("inf")


class Patience:
    """Until when a client is waited for, in one connection."""

    __slots__ = ("_began", "octets")

    def __init__(self) -> None:
        self._began = 0.0
        self.octets = 0
        """How many have come since the last reply."""

    def until(self, now: float, *, text: bool, said: bool, refused: bool) -> float:
        """The deadline, after something came that counts.

        `text`: the text of a message comes in; `said`: there is a reply to what came, so with `text` it
        begins just now; `refused`: nothing is taken from this client.
        """
        if said:
            self._began, self.octets = now, 0
        if refused:
            return now + SHORT
        if not text:
            return now + IDLE
        return min(now + BLOCK, self._began + TEXT + self.octets / SLOWEST)
