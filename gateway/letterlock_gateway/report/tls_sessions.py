"""Outgoing TLS sessions by domain and host, as SMTP TLS reports (RFC 8460) will need them.

Workers record, the supervisor adds up and keeps a file a day (`manage.session_days`). Reports themselves are not made
yet. Nothing here is a metric, since domains are no labels.
"""

from collections.abc import Mapping
from typing import Final

from letterlock_api.conditions import Reason

SUCCESSFUL: Final = ""
"""The result type of a session that was negotiated as the policy wants it."""
# Rows of a day; what comes beyond them is counted for all domains together.
MOST_ROWS: Final = 20_000
OTHERS: Final = "*"
# RFC 8460 section 4.3. What no certificate is to blame for, and STARTTLS not either, is validation-failure.
_TYPES: Final[Mapping[str, str]] = {
    Reason.TLS_NOT_OFFERED: "starttls-not-supported",
    Reason.TLS_REFUSED: "starttls-not-supported",
    Reason.HANDSHAKE_FAILED: "validation-failure",
    Reason.NOT_TRUSTED: "certificate-not-trusted",
    Reason.NAME_MISMATCH: "certificate-host-mismatch",
    Reason.EXPIRED: "certificate-expired",
}

type Row = tuple[str, str, str, str]
"""Domain, receiving host, its address, result type."""


def result_type(reason: str) -> str:
    """RFC 8460's word for a failure; empty for what is no failure of TLS."""
    return _TYPES.get(reason, "")


class Sessions:
    """Sessions counted by row."""

    def __init__(self) -> None:
        self._rows: dict[Row, int] = {}

    def record(self, row: Row, count: int = 1) -> None:
        """One more session (or several)."""
        if row not in self._rows and len(self._rows) >= MOST_ROWS:
            row = (OTHERS, "", "", row[3])
        self._rows[row] = self._rows.get(row, 0) + count

    def take(self) -> list[tuple[Row, int]]:
        """All since this was last asked."""
        rows, self._rows = self._rows, {}
        return list(rows.items())

    def rows(self) -> list[tuple[Row, int]]:
        """All of them, in order."""
        return sorted(self._rows.items())
