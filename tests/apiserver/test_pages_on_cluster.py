"""The pages on listeners, delivery, HTTPS and troubleshooting, run as they stand on an API server with an operator."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from letterlock_api import htpasswd
from tests.docs.test_pages import blocks
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import operator
from tests.harness.quickstart import GATEWAY, condition
from tests.harness.waiting import until


@pytest.fixture
def environment(api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path) -> dict[str, str]:
    """Whose kubectl context is the test's namespace, with both programs on the PATH."""
    loaded = yaml.safe_load(api_server.kubeconfig.read_text())
    loaded["contexts"][0]["context"]["namespace"] = namespace
    made = tmp_path / "kubeconfig"
    made.write_text(yaml.safe_dump(loaded))
    path = (str(kubectl.program.parent), str(Path(sys.executable).parent), os.environ["PATH"])
    return os.environ | {"KUBECONFIG": str(made), "PATH": os.pathsep.join(path)}


def test_the_pages_work_as_they_stand(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, environment: dict[str, str], tmp_path: Path
) -> None:
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(GATEWAY)
        for page in ("listeners.md", "delivery.md", "https.md", "troubleshooting.md"):
            done = subprocess.run(
                ("bash", "-eu", "-c", "\n".join(blocks(page))),
                cwd=tmp_path,
                # The password that a page has somebody type twice; without a terminal it is read from here.
                input="correct horse\n" * 2,
                start_new_session=True,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
                env=environment,
            )
            assert done.returncode == 0, page + done.stdout[-2000:] + done.stderr[-2000:]

        for what in ("lsn/public", "lsn/private", "destctl/bank", "destctl/everybody-else", "mgw/default"):
            until(
                lambda what=what: condition(kubectl, what, "Accepted").get("status") == "True",
                what=f"{what} Accepted",
                seconds=60,
            )
    users = kubectl.json("get", "secret", "managers")["data"]["htpasswd"]
    assert list(htpasswd.parse(base64.b64decode(users)).hashes) == ["ada"]
    assert "Needs attention" in (tmp_path / "status.txt").read_text()
    assert "BEGIN CERTIFICATE" in (tmp_path / "authorities.txt").read_text()
    seen = yaml.safe_load((tmp_path / "resources.yaml").read_text())
    assert "PRIVATE KEY" not in str(seen)
    assert {one["metadata"]["name"] for one in seen["items"]} >= {
        "public",
        "private",
        "bank",
        "mx",
        "outgoing",
    }
