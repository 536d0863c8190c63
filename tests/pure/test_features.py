"""docs/features.md is true as far as a program can tell: every id once, every test that it names there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "features.md").read_text().splitlines()
    if re.match(r"\| [CLDAHK]\d", line)
]
IDS = [
    *(f"C{number}" for number in range(1, 12)),
    *(f"L{number}" for number in range(1, 11)),
    *(f"D{number}" for number in range(1, 16)),
    *(f"A{number}" for number in range(1, 6)),
    *(f"H{number}" for number in range(1, 4)),
    *(f"K{number}" for number in range(1, 6)),
]


def test_every_feature_has_one_row():
    assert [row.split("|")[1].strip() for row in ROWS] == IDS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_row_names_tests_that_exist_and_a_state(row: str):
    _, _, what, how, proof, state, _ = (cell.strip() for cell in row.split("|"))
    assert what
    assert how
    assert re.match(r"(works$|partly: |not yet$)", state), state
    assert bool(proof) == (state != "not yet"), "what works is proved, and what does not is not"
    for reference in filter(None, proof.split(", ")):
        file, _, test = reference.partition("::")
        text = (ROOT / file).read_text()
        assert not test or re.search(rf"def {test}\(", text), f"{file} has no {test}"
