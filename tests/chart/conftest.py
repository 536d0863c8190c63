"""helm, alone and on the session's API server."""

from pathlib import Path

import pytest

from tests.harness.apiserver import ApiServer
from tests.harness.helm import Helm


@pytest.fixture(scope="session")
def helm(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm without a cluster: it was built beside kubectl."""
    return Helm(api_server.kubectl.program.with_name("helm"), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def cluster_helm(helm: Helm, api_server: ApiServer) -> Helm:
    """helm as administrator of the session's API server."""
    return Helm(helm.program, helm.home, api_server.kubeconfig)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for logs and credentials."""
    return tmp_path
