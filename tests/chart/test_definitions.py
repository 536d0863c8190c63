"""The resource definitions: installed once, brought forward before upgrades, never back, and kept at the end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from letterlock_api import crd
from letterlock_api.kinds import KINDS
from letterlock_cli.definition_commands import newer
from tests.harness.apiserver import CRDS, ApiServer, running
from tests.harness.charted import jobs
from tests.harness.helm import CHART, Helm

NAMES = [f"{model.PLURAL}.letterlock.dev" for model in KINDS.values()]
DEFINITION = "customresourcedefinitions/mailgateways.letterlock.dev"
OURS = crd.custom_resource_definition("MailGateway")["metadata"]["annotations"][crd.VERSION_ANNOTATION]


@pytest.fixture(scope="module")
def empty_cluster() -> Iterator[ApiServer]:
    """An API server that has never heard of us."""
    with running() as server:
        files = [f"--filename={file}" for file in sorted(CRDS.glob("*.yaml"))]
        server.kubectl("delete", "--wait", *files)
        yield server


@pytest.fixture
def their_helm(helm: Helm, empty_cluster: ApiServer) -> Helm:
    return replace(helm, kubeconfig=empty_cluster.kubeconfig)


def standing(server: ApiServer) -> dict[str, Any]:
    return server.kubectl.json("get", DEFINITION)


def properties(server: ApiServer) -> dict[str, Any]:
    schema = standing(server)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema["properties"]["spec"]["properties"]


def version(server: ApiServer) -> str:
    return standing(server)["metadata"]["annotations"].get(crd.VERSION_ANNOTATION, "")


def of_version(server: ApiServer, other: str) -> None:
    """Make the definition one of another release: other fields, another annotation."""
    item = standing(server)
    item["metadata"]["annotations"][crd.VERSION_ANNOTATION] = other
    fields = item["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del fields["postmaster"]
    fields["minHops"] = {"type": "integer"}
    server.kubectl("replace", "--filename=-", stdin=json.dumps(item))


def apply(server: ApiServer, *options: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "letterlock_cli", "crds", "apply", *options)
    return subprocess.run(
        (*command, "--kubeconfig", str(server.kubeconfig)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_from_an_empty_cluster_to_an_uninstalled_release(
    empty_cluster: ApiServer, their_helm: Helm, tmp_path: Path
) -> None:
    kubectl = empty_cluster.kubectl
    values = {"gateway": {"spec": {"hostname": "mx.example.com", "postmaster": "postmaster@example.com"}}}
    with empty_cluster.fresh_namespace() as first, empty_cluster.fresh_namespace() as second:
        here, there = replace(their_helm, namespace=first), replace(their_helm, namespace=second)
        # The first install has both: definitions, and resources that need them.
        here("install", "mx", str(CHART), values=values)
        assert version(empty_cluster) == OURS
        of_version(empty_cluster, "0.0.1")
        # helm leaves them as they are; the Job brings them forward, also for a first install beside an older one.
        with jobs(empty_cluster, second, tmp_path) as ran:
            there("install", "mx", str(CHART), "--timeout=120s", values=values)
        assert [one.returncode for one in ran] == [0], ran
        assert f"{NAMES[0]} applied: {OURS}, was 0.0.1" in ran[0].stdout
        assert "postmaster" in properties(empty_cluster)
        assert "minHops" not in properties(empty_cluster)
        of_version(empty_cluster, "999.0.0")
        with jobs(empty_cluster, first, tmp_path) as ran:
            here("upgrade", "mx", str(CHART), "--timeout=120s", values={"gateway": {"enabled": False}})
        assert [one.returncode for one in ran] == [0], ran
        assert "mailgateways.letterlock.dev stays: it is of version 999.0.0" in ran[0].stderr
        assert version(empty_cluster) == "999.0.0"
        assert "minHops" in properties(empty_cluster)
        for helm, namespace in ((here, first), (there, second)):
            helm("uninstall", "mx", "--wait", "--timeout=60s")
            left = kubectl.within(namespace)(
                "get", "letterlock,deployments,jobs,roles,rolebindings", "--output=name"
            )
            assert left == ""
        for name in NAMES:
            assert kubectl.run("get", "crd", name).returncode == 0, "definitions, and all resources, are kept"


def test_the_command_applies_older_ones_and_says_what_it_would_do(empty_cluster: ApiServer) -> None:
    empty_cluster.kubectl("delete", "crd", *NAMES, "--ignore-not-found")
    assert apply(empty_cluster).stdout.count(f" applied: {OURS}\n") == len(NAMES)
    of_version(empty_cluster, "0.0.9")
    tried = apply(empty_cluster, "--dry-run")
    assert f"{NAMES[0]} would be applied: {OURS}, was 0.0.9" in tried.stdout
    assert version(empty_cluster) == "0.0.9"
    assert apply(empty_cluster).returncode == 0
    assert version(empty_cluster) == OURS
    assert empty_cluster.kubectl("get", "calists.letterlock.dev", "--all-namespaces") == ""


def test_the_command_says_in_one_line_that_it_may_not(empty_cluster: ApiServer, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(empty_cluster.kubeconfig.read_text().replace(empty_cluster.token, "nobody"))
    done = apply(replace(empty_cluster, kubeconfig=kubeconfig))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: resource definitions could not be applied: ")


@pytest.mark.parametrize(
    ("theirs", "ours", "left_alone"),
    [
        ("", "0.1.0", False),
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.1.1", False),
        ("0.9.0", "0.10.0", False),
        ("1.0.0-rc.1", "1.0.0", False),
        ("0.1.1", "0.1.0", True),
        ("1.0.0", "1.0.0-rc.1", True),
        ("next", "0.1.0", True),
    ],
)
def test_versions_are_compared_as_versions(theirs: str, ours: str, left_alone: bool) -> None:
    assert newer(theirs, ours) is left_alone
