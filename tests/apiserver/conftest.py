"""What tests with the operator share: one place for those that need no operator of their own."""

from collections.abc import Iterator

import pytest

from tests.harness.apiserver import ApiServer
from tests.harness.places import Place


@pytest.fixture(scope="package")
def place(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A namespace with an operator and a member."""
    with Place.running(api_server, tmp_path_factory.mktemp("place")) as made:
        yield made
