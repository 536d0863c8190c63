"""`kubectl letterlock`: the command as kubectl's plugin, on a real API server with an operator and a member."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.harness.apiserver import ApiServer
from tests.harness.places import Place

PLUGINS = Path(sys.executable).parent


def plugin(place: Place, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """kubectl finds `kubectl-letterlock` on the PATH, and hands on what comes behind its name."""
    path = os.pathsep.join((str(PLUGINS), os.environ["PATH"]))
    return subprocess.run(
        (str(place.kubectl.program), "letterlock", *arguments),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PATH": path} | environment,
    )


def test_kubectl_finds_it_and_its_options_choose_the_cluster(
    place: Place, api_server: ApiServer, tmp_path: Path
) -> None:
    listed = subprocess.run(
        (str(place.kubectl.program), "plugin", "list"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PATH": str(PLUGINS)},
    )
    assert f"{PLUGINS}/kubectl-letterlock" in listed.stdout
    namespace = place.kubectl.namespace
    kubeconfig = yaml.safe_load(api_server.kubeconfig.read_text())
    [context] = kubeconfig["contexts"]
    elsewhere = {"name": "elsewhere", "context": {**context["context"], "namespace": "kube-system"}}
    kubeconfig["contexts"].append(elsewhere)
    ours = tmp_path / "kubeconfig"
    ours.write_text(yaml.safe_dump(kubeconfig))

    done = plugin(place, "status", "-n", namespace, KUBECONFIG=str(ours))
    assert done.returncode == 0, done.stderr
    assert "default-0   default   yes" in done.stdout
    assert "nothing waits" in done.stdout
    # The harness has no kubelet API to run commands in pods by: what is not known is said, the rest is shown.
    assert "warning: the queue of default-0 cannot be looked into" in done.stderr

    found = plugin(place, "status", "-o", "json", "--namespace", namespace, "--kubeconfig", str(ours))
    seen = json.loads(found.stdout)["overview"]
    assert seen["served"] is None
    [gateway] = seen["gateways"]
    assert (gateway["name"], gateway["ready"], gateway["programmed"]) == ("default", "1/1", "True")

    nothing = plugin(place, "status", "--context", "elsewhere", KUBECONFIG=str(ours))
    assert (nothing.returncode, nothing.stderr.strip()) == (0, "no resources")
    wrong = plugin(place, "status", "--context", "nowhere", KUBECONFIG=str(ours))
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: ")
    assert len(wrong.stderr.splitlines()) == 1


def test_usage_names_it_as_it_was_called(place: Place) -> None:
    assert "Usage: kubectl letterlock status [OPTIONS]" in plugin(place, "status", "--help").stdout
    wrong = plugin(place, "listner")
    assert wrong.returncode == 2
    assert "kubectl letterlock" in wrong.stderr
