"""Every example is a valid manifest by the same rules that the API server applies."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from letterlock_api import rules
from letterlock_api.kinds import KINDS

EXAMPLES = Path(__file__).parents[2] / "examples"
MANIFESTS: list[tuple[str, dict[str, Any]]] = [
    (f"{path.parent.name}/{path.name}: {body['kind']} {body['metadata']['name']}", body)
    for path in sorted(EXAMPLES.rglob("*.yaml"))
    for body in yaml.safe_load_all(path.read_text())
    if body and body["kind"] in KINDS
]


def test_there_are_examples():
    assert len(MANIFESTS) > 5


@pytest.mark.parametrize("body", [body for _, body in MANIFESTS], ids=[name for name, _ in MANIFESTS])
def test_an_example_is_valid(body: dict[str, Any]):
    assert rules.problems(rules.parse(body)) == []
