"""What all tests share: a network each where a run is divided, an API server, a fresh namespace for each test."""

from collections.abc import Iterator

import hypothesis
import pytest
from xdist.remote import Producer  # pyright: ignore[reportMissingTypeStubs] - it brings no stubs
from xdist.scheduler import LoadFileScheduling  # pyright: ignore[reportMissingTypeStubs] - nor here

from tests.harness import network
from tests.harness.apiserver import ApiServer, Kubectl, running

# Tests judge nothing by time: a machine with much to do is no fault of what is tested.
hypothesis.settings.register_profile("letterlock", deadline=None)
hypothesis.settings.load_profile("letterlock")


def pytest_configure(config: pytest.Config) -> None:
    """Where the run is divided, each part has a network of its own."""
    if hasattr(config, "workerinput"):
        network.enter_own()


class _Scheduling(LoadFileScheduling):
    """A file at a time for each half of a run; the files of tests/cluster as one: one cluster serves them all."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/cluster" if nodeid.startswith("tests/cluster/") else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduling:
    """How a run is divided (tests/everything.sh)."""
    return _Scheduling(config, log)


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real API server with our CRDs and a foreign one of plural `certificates`."""
    with running() as server:
        yield server


@pytest.fixture
def namespace(api_server: ApiServer) -> Iterator[str]:
    """A namespace that no other test uses."""
    with api_server.fresh_namespace() as name:
        yield name


@pytest.fixture
def kubectl(api_server: ApiServer, namespace: str) -> Kubectl:
    """kubectl as administrator, in this test's namespace."""
    return api_server.kubectl.within(namespace)
