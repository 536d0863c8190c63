"""Every folder of examples is taken by a real API server, with all its rules."""

from pathlib import Path

import pytest

from tests.harness.apiserver import Kubectl

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted({path.parent for path in EXAMPLES.rglob("*.yaml")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_applies(kubectl: Kubectl, folder: Path):
    kubectl("apply", "--dry-run=server", "-f", str(folder))
