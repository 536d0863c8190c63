"""What `letterlock init` writes is taken by a real API server, and applied by it where that is asked for (H3)."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.commands import letterlock, well
from tests.cli.test_wizard import LEAST, VARIANTS
from tests.harness.apiserver import ApiServer, Kubectl


@pytest.mark.parametrize("answers", VARIANTS.values(), ids=VARIANTS)
def test_the_api_server_takes_them(kubectl: Kubectl, tmp_path: Path, answers: dict[str, Any]) -> None:
    file = tmp_path / "answers"
    file.write_text(yaml.safe_dump(answers))
    well("init", tmp_path / "mail", "--answers", file)
    kubectl("apply", "--dry-run=server", "-f", str(tmp_path / "mail"))


def test_it_applies_them_and_replaces_only_with_force(
    api_server: ApiServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    file = tmp_path / "answers"
    where = ("--namespace", kubectl.namespace, "--kubeconfig", api_server.kubeconfig)
    file.write_text(yaml.safe_dump(LEAST))
    again = ("init", tmp_path / "mail", "--answers", file, "--then", "apply", *where)
    well(*again)
    assert kubectl.json("get", "lsn", "public")["spec"]["port"] == 25
    file.write_text(yaml.safe_dump(LEAST | {"port": 2500}))
    elsewhere = ("init", tmp_path / "other", *again[2:])
    assert "Listener/public" in letterlock(*elsewhere).stderr
    assert kubectl.json("get", "lsn", "public")["spec"]["port"] == 25
    well(*again, "--force")
    assert kubectl.json("get", "lsn", "public")["spec"]["port"] == 2500
