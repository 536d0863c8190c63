"""Certificates on a real API server: signed, imported, exported, asked of a signer, per member (C2-C5, C9, C11)."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.apiserver.test_operator_members import SMTP_PORT, programmed
from tests.certificates.programs import PASSPHRASE, openssl, pair
from tests.decide.authority import intermediate, root
from tests.harness import tls_programs
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.kubelet import Kubelet
from tests.harness.operators import operator
from tests.harness.quickstart import CERTIFICATE, GATEWAY, LISTENER, condition, holds, resource, snapshot
from tests.harness.waiting import until

MX = "certificates.letterlock.dev/mx"
MAIL_GATEWAY = "mailgateways.letterlock.dev/default"


def status(kubectl: Kubectl, what: str = MX) -> dict[str, Any]:
    return kubectl.json("get", what).get("status") or {}


def patch(kubectl: Kubectl, what: str, spec: dict[str, Any]) -> None:
    kubectl("patch", what, "--type=merge", f"--patch={json.dumps({'spec': spec})}")


def admits(kubectl: Kubectl) -> str:
    """Who may take mail, as the members' snapshot says it."""
    return json.dumps(json.loads(json.loads(snapshot(kubectl))["snapshot.json"]).get("admits"))


def reason(kubectl: Kubectl, wanted: str, what: str = MX) -> str:
    """Wait until Ready has this reason; gives its message."""
    until(
        lambda: condition(kubectl, what, "Ready").get("reason") == wanted,
        seconds=60,
        what=f"{what} Ready {wanted}",
    )
    return condition(kubectl, what, "Ready")["message"]


def verified(address: str, root_file: Path, name: str) -> bool:
    """Whether openssl verifies the member's listener against this root alone, for this name."""
    options = ("-no-CApath", "-no-CAstore", "-CAfile", str(root_file), "-verify_hostname", name)
    shown = tls_programs.shown(address, SMTP_PORT, *options, "-verify_return_error")
    return "Verify return code: 0 (ok)" in shown


def test_a_request_signed_by_an_intermediate_is_served_and_verified_against_the_root_alone(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    root_file = tmp_path / "root.pem"
    root_file.write_text(root().pem)
    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet,
    ):
        kubectl.apply(GATEWAY, CERTIFICATE, LISTENER)
        programmed(kubectl, MX, "listeners.letterlock.dev/inbound")
        address = kubelet.address("default-0")
        assert not verified(address, root_file, "mx.example.com")
        request = status(kubectl)["request"]
        assert (
            b"verify OK"
            in subprocess.run(
                ("openssl", "req", "-verify", "-noout"),
                input=request.encode(),
                capture_output=True,
                check=True,
            ).stderr
        )
        signed = intermediate().sign(request)
        patch(
            kubectl,
            MX,
            {"signed": [{"certificate": signed, "intermediates": root().pem + intermediate().pem}]},
        )
        until(
            lambda: verified(address, root_file, "mx.example.com"), seconds=60, what="the signed certificate"
        )
        programmed(kubectl, MX, "listeners.letterlock.dev/inbound")
        before = status(kubectl)
        assert before["issuer"] == "CN=Intermediate"
        assert before["usedBy"] == ["Listener/inbound"]
        # One for another key is refused, and the one in use stays in use.
        stranger = openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=a.example"
        )
        patch(kubectl, MX, {"signed": [{"certificate": stranger.decode()}]})
        assert "stays in use" in reason(kubectl, "KeyMismatch")
        assert status(kubectl)["fingerprint"] == before["fingerprint"]
        assert verified(address, root_file, "mx.example.com")


def test_a_pkcs12_file_is_imported_and_exported(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    key, certificate = pair(tmp_path)
    file = tmp_path / "mx.p12"
    openssl(
        "pkcs12", "-export", "-inkey", key, "-in", certificate, "-out", file, "-passout", f"pass:{PASSPHRASE}"
    )
    kubectl(
        *("create", "secret", "generic", "file", f"--from-file=mx.p12={file}"),
        *("--from-literal=wrong=guess", f"--from-literal=right={PASSPHRASE}\n"),
    )

    def imported(passphrase: str) -> dict[str, Any]:
        keys = {"secretKeyRef": "mx.p12", "passphraseSecretKeyRef": passphrase}
        source = {field: {"name": "file", "key": key} for field, key in keys.items()}
        return resource("Certificate", "mx", pkcs12=source)

    export = {
        "secretName": "for-others",
        "fileName": "mail.pfx",
        "passphraseSecretKeyRef": {"name": "file", "key": "right"},
    }
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(GATEWAY, imported("wrong"))
        assert "passphrase" in reason(kubectl, "WrongPassphrase")
        kubectl.apply(imported("right"))
        reason(kubectl, "Issued")
        seen = status(kubectl)
        assert seen["subject"] == "CN=mx.example.com,O=Example Ltd"
        assert seen["level"] == "Cluster"
        # A wrong passphrase later replaces nothing.
        kubectl.apply(imported("wrong"))
        assert "stays in use" in reason(kubectl, "WrongPassphrase")
        assert status(kubectl)["fingerprint"] == seen["fingerprint"]
        kubectl.apply(imported("right"))
        reason(kubectl, "Issued")
        patch(kubectl, MX, {"export": {"pkcs12": export}})
        until(lambda: kubectl.run("get", "secret", "for-others").returncode == 0, what="the export")
        data = kubectl.json("get", "secret", "for-others")["data"]
        assert list(data) == ["mail.pfx"]
        exported = tmp_path / "mail.pfx"
        exported.write_bytes(base64.b64decode(data["mail.pfx"]))
        opened = openssl("pkcs12", "-in", exported, "-passin", f"pass:{PASSPHRASE}", "-nodes")
        assert openssl("pkey", text=opened) == openssl("pkey", "-in", key)
        # Not asked for any more: a file with a key does not stay behind.
        patch(kubectl, MX, {"export": None})
        until(lambda: kubectl.run("get", "secret", "for-others").returncode != 0, what="the export to go")


def test_a_kubernetes_signer_is_asked_denies_and_signs(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    def requests() -> list[dict[str, Any]]:
        selector = f"letterlock.dev/namespace={namespace}"
        return kubectl.json("get", "certificatesigningrequests", f"--selector={selector}")["items"]

    asked = resource(
        "Certificate",
        "mx",
        level="Cluster",
        dnsNames=["mx.example.com"],
        signerName="tests.example/mail",
        days=30,
    )
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(GATEWAY, asked)
        reason(kubectl, "AwaitingSigner")
        (request,) = until(requests, what="a signing request")
        name = request["metadata"]["name"]
        assert request["spec"]["signerName"] == "tests.example/mail"
        asks = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        names = asks.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["mx.example.com"]
        kubectl("certificate", "deny", name)
        assert name in reason(kubectl, "RequestDenied")
        seen = status(kubectl)
        assert seen["failedAttempts"] == 1
        assert seen["nextAttemptTime"]
        assert len(requests()) == 1, "not asked again at once"
        # Another request (another name is wanted now), and this time it is approved and signed.
        patch(kubectl, MX, {"dnsNames": ["mx.example.com", "mail.example.com"]})
        until(lambda: len(requests()) == 2, what="a second request")
        (second,) = [one for one in requests() if one["metadata"]["name"] != name]
        kubectl("certificate", "approve", second["metadata"]["name"])
        wanted = base64.b64decode(second["spec"]["request"]).decode()
        chain = intermediate().sign(wanted, days=30) + intermediate().pem
        answer = json.dumps({"status": {"certificate": base64.b64encode(chain.encode()).decode()}})
        what = f"certificatesigningrequests/{second['metadata']['name']}"
        kubectl("patch", what, "--subresource=status", "--type=merge", f"--patch={answer}")
        reason(kubectl, "Issued")
        seen = status(kubectl)
        assert seen["issuer"] == "CN=Intermediate"
        assert sorted(seen["dnsNames"]) == ["mail.example.com", "mx.example.com"]
        assert "failedAttempts" not in seen


def test_scaling_makes_and_retires_the_pairs_of_members(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    def pairs() -> dict[str, str]:
        items: list[dict[str, Any]] = kubectl.json("get", "secrets")["items"]
        return {
            one["metadata"]["name"].removeprefix("letterlock-cert-mx-"): one["metadata"]["resourceVersion"]
            for one in items
            if one["metadata"]["name"].startswith("letterlock-cert-mx-")
        }

    machine = resource(
        "Certificate", "mx", level="Machine", subject={"commonName": "mx{ordinal}.example.com"}
    )
    two = {**GATEWAY, "spec": {**GATEWAY["spec"], "replicas": 2}}
    four = {**GATEWAY, "spec": {**GATEWAY["spec"], "replicas": 4}}
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(two, machine)
        until(lambda: holds(kubectl, MX, "Ready"), seconds=60, what="two pairs")
        first = pairs()
        assert sorted(first) == ["default-0", "default-1"]
        kubectl.apply(four)
        until(lambda: len(status(kubectl).get("members") or ()) == 4, seconds=60, what="four members")
        grown = pairs()
        assert {name: grown[name] for name in first} == first
        members: list[dict[str, Any]] = status(kubectl)["members"]
        assert len({one["request"] for one in members}) == 4
        # A node says that member 2 runs, and no more: nobody says that it holds no mail, so it and its pair stay.
        # Nothing ever ran of member 3: it goes.
        until(lambda: kubectl.run("get", "pod", "default-2").returncode == 0, seconds=60, what="a pod")
        runs: dict[str, Any] = {
            "name": "gateway",
            "image": "",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
        }
        runs["state"] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        said = json.dumps({"status": {"containerStatuses": [runs]}})
        kubectl("patch", "pod", "default-2", "--subresource=status", "--type=merge", f"--patch={said}")
        until(
            lambda: '"default-2"' in admits(kubectl), seconds=60, what="member 2 among those that take mail"
        )
        kubectl.apply(two)
        until(lambda: holds(kubectl, MAIL_GATEWAY, "Draining"), seconds=60, what="a member that is to go")
        assert "default-2 does not answer" in condition(kubectl, MAIL_GATEWAY, "Draining")["message"]
        kept = {name: pair for name, pair in grown.items() if name != "default-3"}
        until(lambda: pairs() == kept, seconds=60, what="the pair of member 3 to go")
        kubectl("annotate", MAIL_GATEWAY, "letterlock.dev/force-scale-in=default-2")
        until(lambda: pairs() == first, seconds=60, what="the pair of member 2 to go")
        until(lambda: not condition(kubectl, MAIL_GATEWAY, "Draining"), seconds=60, what="the warning to go")
