"""What a chart's pods would do, on an API server without nodes: their commands run here, with their accounts' rights.

The operator's Deployment, and the Jobs of hooks, get their pods from the controller manager; nobody runs these. So the
container's arguments are taken from there and run as a process with a token of the pod's service account, and
the pod of a Job is then reported as ended, which is what its kubelet would do.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import ended_well, started
from tests.harness.ports import free_port

_PROGRAM: Final = (sys.executable, "-m", "letterlock_cli")


def account_kubeconfig(api_server: ApiServer, namespace: str, account: str, folder: Path) -> Path:
    """A kubeconfig with the rights of a service account only."""
    token = api_server.kubectl.within(namespace)("create", "token", account).strip()
    kubeconfig = yaml.safe_load(api_server.kubeconfig.read_text())
    kubeconfig["users"] = [{"name": "admin", "user": {"token": token}}]
    file = folder / f"kubeconfig-{namespace}-{account}"
    file.write_text(yaml.safe_dump(kubeconfig))
    return file


@contextlib.contextmanager
def deployed_operator(
    api_server: ApiServer, namespace: str, deployment: str, folder: Path, log: Path
) -> Generator[subprocess.Popen[bytes]]:
    """The operator of a Deployment, as a process; ended with SIGTERM. Raises AssertionError where it ends badly."""
    kubectl = api_server.kubectl.within(namespace)
    pod = kubectl.json("get", "deployment", deployment)["spec"]["template"]["spec"]
    kubeconfig = account_kubeconfig(api_server, namespace, pod["serviceAccountName"], folder)
    # Every pod has the port for itself; here they share one host.
    given = [
        one for one in pod["containers"][0]["args"] if not one.startswith(("--health-port", "--log-format"))
    ]
    command = (
        *_PROGRAM,
        *given,
        f"--health-port={free_port()}",
        "--log-format=text",
        f"--kubeconfig={kubeconfig}",
    )
    with started(command, log) as process, ended_well(process, log):
        yield process


@contextlib.contextmanager
def jobs(
    api_server: ApiServer, namespace: str, folder: Path
) -> Generator[list[subprocess.CompletedProcess[str]]]:
    """Runs the pods of Jobs of the namespace as they appear. Gives the runs so far."""
    kubectl = api_server.kubectl.within(namespace)
    done: list[subprocess.CompletedProcess[str]] = []
    stopping = threading.Event()

    def serve() -> None:
        seen: set[str] = set()
        while not stopping.wait(0.2):
            listed = kubectl.run("get", "pods", "--selector=batch.kubernetes.io/job-name", "--output=json")
            items: list[dict[str, Any]] = json.loads(listed.stdout)["items"] if listed.returncode == 0 else []
            for pod in items:
                if pod["metadata"]["uid"] not in seen:
                    seen.add(pod["metadata"]["uid"])
                    done.append(_run(api_server, kubectl, pod, folder))

    thread = threading.Thread(target=serve, name=f"jobs of {namespace}", daemon=True)
    thread.start()
    try:
        yield done
    finally:
        stopping.set()
        thread.join()


def _run(
    api_server: ApiServer, kubectl: Kubectl, pod: dict[str, Any], folder: Path
) -> subprocess.CompletedProcess[str]:
    account: str = pod["spec"]["serviceAccountName"]
    kubeconfig = account_kubeconfig(api_server, pod["metadata"]["namespace"], account, folder)
    given: Sequence[str] = pod["spec"]["containers"][0]["args"]
    ran = subprocess.run(
        (*_PROGRAM, *given, f"--kubeconfig={kubeconfig}"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    phase = "Succeeded" if ran.returncode == 0 else "Failed"
    patch = json.dumps({"status": {"phase": phase}})
    kubectl(
        "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", f"--patch={patch}"
    )
    return ran
