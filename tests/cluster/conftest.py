"""A real cluster for the session, Letterlock installed on it, and tests that run inside its network."""

from collections.abc import Iterator

import pytest

from tests.harness import installed
from tests.harness.cluster import Cluster, running
from tests.harness.installed import Mail


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One node that runs pods, without Letterlock."""
    with running() as one:
        yield one


@pytest.fixture(autouse=True)
def inside(cluster: Cluster) -> Iterator[None]:
    """Each test here runs in the cluster's network: what it starts and whom it asks is in there."""
    with cluster.inside():
        yield


@pytest.fixture(scope="session")
def letterlock(cluster: Cluster) -> Cluster:
    """The cluster with the operator on it."""
    with cluster.inside():
        installed.install(cluster)
    return cluster


@pytest.fixture
def mail(letterlock: Cluster, inside: None) -> Iterator[Mail]:
    """A gateway of one member in a namespace of its own."""
    with installed.gateway(letterlock) as one:
        yield one
