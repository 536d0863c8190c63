"""`Programmed` is the members' own word: real members, fed by a stand-in kubelet, asked over mutual TLS."""

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.harness import tls_programs
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.kubelet import Kubelet
from tests.harness.operators import operator
from tests.harness.quickstart import (
    QUICKSTART,
    changed,
    condition,
    holds,
    looked,
    programmed,
    revisions,
    settled,
)
from tests.harness.waiting import until

SMTP_PORT = 10025  # 25 in a pod


def served(address: str) -> str:
    """The certificate that a member shows on its listener, as openssl prints its subject."""
    shown = tls_programs.shown(address, SMTP_PORT)
    return next((line for line in shown.splitlines() if line.startswith("subject=")), "")


def test_resources_are_programmed_once_every_member_runs_them(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet,
    ):
        kubectl.apply(*QUICKSTART)
        programmed(kubectl)
        assert "CN=mx.example.com" in served(kubelet.address("default-0")).replace(" ", "")
        gateway = kubectl.json("get", "mailgateways.letterlock.dev/default")["status"]
        assert gateway["ready"] == "1/1"
        assert [member["name"] for member in gateway["members"]] == ["default-0"]


def test_a_changed_certificate_is_programmed_when_it_is_served(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet,
    ):
        kubectl.apply(*QUICKSTART)
        programmed(kubectl)
        patch = json.dumps({"spec": {"subject": {"organization": "Example Ltd"}}})
        kubectl("patch", "certificates.letterlock.dev/mx", "--type=merge", f"--patch={patch}")

        def told() -> dict[str, Any] | None:
            said = condition(kubectl, "certificates.letterlock.dev/mx", "Programmed")
            return said if said["observedGeneration"] == 2 and said["status"] == "True" else None

        until(told, what="the new certificate programmed")
        assert "Example Ltd" in served(kubelet.address("default-0"))


def test_who_waits_for_a_certificate_that_is_made_anew_is_never_answered_by_the_one_before(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    what, listener = "certificates.letterlock.dev/mx", "listeners.letterlock.dev/inbound"

    def since() -> str:
        return condition(kubectl, listener, "Programmed")["lastTransitionTime"]

    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet,
    ):
        kubectl.apply(*QUICKSTART)
        programmed(kubectl)
        for days in range(100, 105):
            before = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            kubectl("patch", what, "--type=merge", f"--patch={json.dumps({'spec': {'days': days}})}")
            kubectl("wait", "--for=condition=Programmed", "--timeout=60s", what)
            status = kubectl.json("get", what)["status"]
            assert fingerprint(kubelet.address("default-0")) == status["fingerprint"]
            until(lambda: holds(kubectl, listener, "Programmed"), what="its listener")
            assert since() >= before, "it was not Programmed meanwhile"


def fingerprint(address: str) -> str:
    """Of the certificate that a member shows on its listener."""
    shown = tls_programs.shown(address, SMTP_PORT)
    return x509.load_pem_x509_certificate(shown.encode()).fingerprint(hashes.SHA256()).hex()


def test_a_member_that_dies_is_not_programmed_until_it_is_back(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet,
    ):
        kubectl.apply(*QUICKSTART)
        programmed(kubectl)
        before = kubelet.pod("default-0").process
        assert before is not None
        kubelet.kill9("default-0")
        until(
            lambda: kubelet.pod("default-0").process is not before and kubelet.pod("default-0").process,
            what="a new process",
        )

        def restarts() -> int:
            (member,) = kubectl.json("get", "mailgateways.letterlock.dev/default")["status"]["members"]
            return member.get("restarts") or 0

        until(restarts, seconds=60, what="the restart told of")
        programmed(kubectl)
        assert restarts() == 1


def test_a_member_that_lies_still_shows_as_such_until_it_goes_on_and_its_version_is_told(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    # Found before the one that is installed: the member takes itself for an older release.
    record = tmp_path / "older" / "letterlock-0.0.1.dist-info" / "METADATA"
    record.parent.mkdir(parents=True)
    record.write_text("Metadata-Version: 2.1\nName: letterlock\nVersion: 0.0.1\n")
    what = "mailgateways.letterlock.dev/default"

    def member() -> dict[str, Any]:
        return kubectl.json("get", what)["status"]["members"][0]

    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(
            api_server.kubeconfig,
            namespace,
            tmp_path / "members",
            environment={"PYTHONPATH": str(tmp_path / "older")},
        ) as kubelet,
    ):
        kubectl.apply(*QUICKSTART)
        programmed(kubectl)
        assert member()["version"] == "0.0.1"
        process = kubelet.pod("default-0").process
        assert process is not None
        os.killpg(process.pid, signal.SIGSTOP)
        try:
            until(lambda: member()["problems"] == ["no answer within 2 s"], seconds=60, what="its silence")
            until(
                lambda: holds(kubectl, what, "Ready", "False"), seconds=60, what="a member that is not ready"
            )
            assert condition(kubectl, what, "Programmed")["reason"] == "NoMembers"
            until(
                lambda: (
                    condition(kubectl, what, "Ready")["message"]
                    == "0 of 1 members are ready: default-0 is not (no answer within 2 s)"
                ),
                seconds=60,
                what="who is not ready, and why",
            )
        finally:
            os.killpg(process.pid, signal.SIGCONT)
        programmed(kubectl)
        until(lambda: member()["problems"] == [], seconds=60, what="a member without problems")


def test_a_restart_of_the_operator_with_members_changes_nothing(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with Kubelet(api_server.kubeconfig, namespace, tmp_path / "members"):
        with operator(api_server.kubeconfig, namespace, tmp_path / "first.log"):
            kubectl.apply(*QUICKSTART)
            programmed(kubectl)
            until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
            before = revisions(kubectl)
        renewed = looked(kubectl)
        with operator(api_server.kubeconfig, namespace, tmp_path / "second.log"):
            kubectl("label", "certificates.letterlock.dev/mx", "touched=yes")
            until(lambda: looked(kubectl) != renewed, seconds=60, what="an operator that has looked")
            until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
            after = revisions(kubectl)
    assert changed(before, after) == {"Certificate/mx"}
