"""From `kubectl apply` of a changed certificate to the new one on the wire, and what an operator weighs at rest.

On a real API server, with the operator as its own program and a stand-in kubelet that refreshes mounts as a kubelet
does for an annotated pod.
"""

import json
import smtplib
import ssl
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.bench.report import Report
from tests.bench.rest import mebibytes
from tests.harness import waiting
from tests.harness.apiserver import running
from tests.harness.kubelet import Kubelet
from tests.harness.operators import operator
from tests.harness.quickstart import QUICKSTART, holds

_PORT = 10025  # 25 in a pod
_LISTENER = "listeners.letterlock.dev/inbound"


def measure(report: Report, changes: int) -> None:
    """Change a certificate `changes` times."""
    times: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder,
        running() as server,
        server.fresh_namespace() as namespace,
        operator(server.kubeconfig, namespace, Path(folder) / "operator.log") as process,
        Kubelet(server.kubeconfig, namespace, Path(folder) / "members") as kubelet,
    ):
        kubectl = server.kubectl.within(namespace)
        kubectl.apply(*QUICKSTART)
        waiting.until(lambda: holds(kubectl, _LISTENER, "Programmed"), seconds=60, what="the listener")
        address = kubelet.address("default-0")
        report.single("operator at rest", mebibytes(process.pid), "MiB")
        for number in range(changes):
            before = _served(address)
            patch = json.dumps({"spec": {"subject": {"organization": f"Change {number}"}}})
            began = time.monotonic()
            kubectl("patch", "certificates.letterlock.dev/mx", "--type=merge", f"--patch={patch}")
            while _served(address) == before:
                if time.monotonic() - began > 60:
                    raise TimeoutError("the new certificate did not come")
                time.sleep(0.01)
            times.append(time.monotonic() - began)
    report.series("apply of a changed certificate to the new one on the wire", times, "s")


def _served(address: str) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP(address, _PORT, local_hostname="bench.example", timeout=30) as client:
        client.starttls(context=context)
        connected: Any = client.sock
        return sha256(connected.getpeercert(binary_form=True)).hexdigest()
