"""What tests with the operator and of commands share: one place for those that need no operator of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.harness.apiserver import ApiServer
from tests.harness.places import Place


@pytest.fixture(scope="package")
def place(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A namespace with an operator and a member."""
    with Place.running(api_server, tmp_path_factory.mktemp("place")) as made:
        yield made


@pytest.fixture
def kubeconfig(api_server: ApiServer, namespace: str, tmp_path: Path) -> Path:
    """The administrator's, with the test's namespace as the context's own."""
    loaded = yaml.safe_load(api_server.kubeconfig.read_text())
    loaded["contexts"][0]["context"]["namespace"] = namespace
    made = tmp_path / "kubeconfig"
    made.write_text(yaml.safe_dump(loaded))
    return made
