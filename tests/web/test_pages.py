"""The pages of a real member, over HTTPS."""

from collections.abc import Generator

import pytest

from tests.harness.mounts import listener
from tests.harness.ports import free_port
from tests.web.managed import Managed, managed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Managed]:
    with managed(tmp_path_factory.mktemp("site")) as found:
        found.publish(found.snapshot(listeners=[listener(free_port())]))
        yield found


def test_overview_and_listeners(site: Managed) -> None:
    page = site.signed_in().get("/")
    assert page.status == 200, page.text
    assert "Overview" in page.text
