"""A Kubernetes signer that fails, denies, forgets and answers wrongly, until it signs (C11).

The operator's clock is set forward where people would wait.
"""

import base64
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from letterlock_api.base import parse_time
from tests.apiserver.test_operator_certificates import MX, reason, status
from tests.decide.authority import intermediate
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.faults import Faults
from tests.harness.operators import operator
from tests.harness.quickstart import GATEWAY, resource
from tests.harness.waiting import until

REQUESTS = "certificatesigningrequests"


def test_a_signer_is_asked_again_later_each_time_and_never_twice_at_once(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    faults, clock = Faults(tmp_path, tmp_path / "none"), timedelta()
    numbers = itertools.count()
    spec: dict[str, Any] = {
        "level": "Cluster",
        "dnsNames": ["mx.example.com"],
        "signerName": "tests.example/mail",
    }

    def requests() -> list[str]:
        items = kubectl.json("get", REQUESTS, f"--selector=letterlock.dev/namespace={namespace}")["items"]
        return sorted(one["metadata"]["name"] for one in items)

    def asked(number: int) -> str:
        """The request of this attempt, once it is there."""
        found = until(
            lambda: [one for one in requests() if one.endswith(f"-{number}")],
            seconds=60,
            what=f"request {number}",
        )
        return found[0]

    def look() -> None:
        """Have the operator look now: with its clock set forward it thinks that it has waited for long."""
        kubectl("label", "--overwrite", MX, f"look=number-{next(numbers)}")

    def later(minutes: float) -> None:
        nonlocal clock
        clock += timedelta(minutes=minutes)
        faults.set(clock_seconds=int(clock.total_seconds()))
        look()

    def answer(name: str, chain: str) -> None:
        kubectl("certificate", "approve", name)
        body = json.dumps({"status": {"certificate": base64.b64encode(chain.encode()).decode()}})
        kubectl("patch", f"{REQUESTS}/{name}", "--subresource=status", "--type=merge", f"--patch={body}")
        look()

    def wanted(name: str) -> str:
        return base64.b64decode(kubectl.json("get", REQUESTS, name)["spec"]["request"]).decode()

    def waits(failures: int, minutes: float) -> None:
        """So many refusals in a row, and the next attempt is due about that long after now."""
        until(
            lambda: status(kubectl).get("failedAttempts") == failures, seconds=60, what=f"{failures} failures"
        )
        due = parse_time(status(kubectl)["nextAttemptTime"])
        left = due - datetime.now(UTC)
        assert timedelta(minutes=minutes - 1) < left <= timedelta(minutes=minutes), left

    with operator(
        api_server.kubeconfig, namespace, tmp_path / "operator.log", environment=faults.environment
    ):
        kubectl.apply(GATEWAY, resource("Certificate", "mx", **spec))
        first = asked(0)
        failed = {"type": "Failed", "status": "True", "reason": "NoQuota", "message": "the CA has had enough"}
        body = json.dumps({"status": {"conditions": [failed]}})
        kubectl("patch", f"{REQUESTS}/{first}", "--subresource=status", "--type=merge", f"--patch={body}")
        look()
        assert "the CA has had enough" in reason(kubectl, "RequestFailed")
        waits(1, 1)
        # Kubernetes forgets what was refused; that is no reason to ask early.
        kubectl("delete", REQUESTS, first)
        look()
        assert requests() == []
        later(1.5)
        second = asked(1)
        kubectl("certificate", "deny", second)
        look()
        reason(kubectl, "RequestDenied")
        # Counted from when it was denied, by the API server's clock.
        waits(2, 2)
        later(2)
        third = asked(2)
        assert requests() == [second, third]
        # One that nobody answered is forgotten after a day: it is asked anew, under the same name.
        kubectl("delete", REQUESTS, third)
        look()
        assert asked(2) == third
        # A certificate that has ended is no answer, and what serves stays.
        serving = status(kubectl)["fingerprint"]
        answer(third, intermediate().sign(wanted(third), start=datetime.now(UTC) - timedelta(days=9), days=1))
        assert "ended on" in reason(kubectl, "RequestFailed")
        waits(3, 4)
        assert status(kubectl)["fingerprint"] == serving
        later(4)
        fourth = asked(3)
        answer(fourth, intermediate().sign(wanted(fourth), days=30) + intermediate().pem)
        reason(kubectl, "Issued")
        until(lambda: "failedAttempts" not in status(kubectl), what="no failures any more")
        assert "nextAttemptTime" not in status(kubectl)
        assert status(kubectl)["issuer"] == "CN=Intermediate"
        # Its renewal is asked for ahead of time, while it serves.
        before = set(requests())
        later(21 * 24 * 60)
        (renewal,) = until(lambda: set(requests()) - before, seconds=60, what="a request for its renewal")
        assert status(kubectl)["issuer"] == "CN=Intermediate"
        signed = intermediate().sign(wanted(renewal), start=datetime.now(UTC), days=60)
        served = status(kubectl)["fingerprint"]
        answer(renewal, signed + intermediate().pem)
        until(lambda: status(kubectl)["fingerprint"] != served, seconds=60, what="the renewed certificate")
