"""The oldest API server that can be built, in the place of the newest, for tests that are at home elsewhere."""

from collections.abc import Iterator

import pytest

from tests.chart.conftest import cluster_helm, folder, helm
from tests.harness.apiserver import ApiServer, running

__all__ = ["cluster_helm", "folder", "helm"]


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """An API server of the oldest release that can be built, with our CRDs and a foreign one."""
    with running(oldest=True) as server:
        yield server
