"""docs/operations.md says of every reason what it asks for."""

import re
from pathlib import Path

import pytest

from letterlock_api.conditions import Reason

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
_SECTION = DOCUMENT.read_text().partition("\n## Reasons\n")[2].partition("\n## ")[0]
# By reason: what its row says.
ROWS = {
    reason: line.split("|")[2].strip()
    for line in _SECTION.splitlines()
    if line.startswith("| `")
    for reason in re.findall(r"`(\w+)`", line.split("|")[1])
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_row(reason: Reason) -> None:
    assert len(ROWS.get(reason, "")) > 10


def test_no_row_is_about_something_else() -> None:
    # Events have one reason more.
    assert set(ROWS) - set(Reason) == {"ServedByAnother"}
