"""The commands on certificates and CA lists on a real API server, others writing at the same time (C1, C3-C6, C8).

docs/certificates.md is run here as it stands, block by block.
"""

import base64
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest

from letterlock_cli.source import Where
from letterlock_cli.targets import target
from tests.certificates.programs import PASSPHRASE, openssl, pair
from tests.cli.commands import letterlock, well
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.openssl_ca import OpensslCA
from tests.harness.operators import operator
from tests.harness.quickstart import GATEWAY, condition, resource
from tests.harness.waiting import until

PAGE: Final = Path(__file__).parents[2] / "docs/certificates.md"
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
LISTENER: Final = resource(
    "Listener",
    "public",
    type="Public",
    defaultPolicy={"tls": {"mode": "Preferred"}},
    recipients=[{"match": ["example.com"], "action": "Accept"}],
)


@pytest.fixture
def served(api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path) -> Iterator[None]:
    """An operator, a gateway without pods that run, and a listener without a certificate."""
    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(GATEWAY, LISTENER)
        yield


@pytest.fixture
def ca(tmp_path: Path) -> OpensslCA:
    (tmp_path / "ca").mkdir()
    return OpensslCA(tmp_path / "ca")


def _signed(ca: OpensslCA, request: Path, answer: Path) -> None:
    """What the CA sends back, and what it sends with it."""
    answer.write_bytes(ca.sign(request.read_bytes()))
    answer.with_name("intermediates.pem").write_bytes(ca.intermediate.read_bytes())


@pytest.mark.usefixtures("served")
def test_the_page_on_certificates_works_as_it_stands(
    kubectl: Kubectl, kubeconfig: Path, ca: OpensslCA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "passphrase.txt").write_text(f"{PASSPHRASE}\n")
    for name, file in (("old.example", "old-gateway.p12"), ("new.example", "renewed.pfx")):
        key, certificate = pair(tmp_path, name)
        secret = ("-passout", f"pass:{PASSPHRASE}")
        openssl("pkcs12", "-export", "-inkey", key, "-in", certificate, "-out", folder / file, *secret)
    key, certificate = pair(tmp_path, "theirs.example")
    (folder / "theirs.pem").write_bytes(certificate.read_bytes())
    (folder / "partners.pem").write_bytes(ca.root.read_bytes())
    kubectl("create", "secret", "tls", "mx-tls", f"--cert={certificate}", f"--key={key}")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("PATH", f"{kubectl.program.parent}{os.pathsep}{os.environ['PATH']}")
    before: dict[str, Callable[[], object]] = {
        "upload mx ": lambda: _signed(ca, folder / "mx.csr", folder / "mx.crt"),
        "status.next": lambda: _prepared(kubectl, ca),
    }

    until(lambda: _demo_events(kubectl), what="a Warning Event for the demo certificate", seconds=60)
    for block in BLOCKS:
        for words, prepare in before.items():
            if words in block:
                prepare()
        if "--member default-0 --certificate" in block:
            first, last = block.split("letterlock certificate upload", 1)
            _run(first.replace("letterlock certificate show", f"{_WAIT}\nletterlock certificate show"))
            _signed(ca, folder / "mx0.csr", folder / "mx0.crt")
            _run("letterlock certificate upload" + last)
        else:
            _run(block)

    def ready() -> list[str]:
        return sorted(one["metadata"]["name"] for one in _all(kubectl, "mailcert") if _ready(one))

    all_that_can_be = ["from-cert-manager", "members", "mx", "old-gateway"]
    until(lambda: ready() == all_that_can_be, seconds=60, what="all certificates that can be")
    until(
        lambda: condition(kubectl, "mailcert/signed", "Ready").get("reason") == "AwaitingSigner",
        seconds=60,
        what="a signer",
    )
    until(lambda: not condition(kubectl, "listener/public", "DemoCertificate"), what="no demo certificate")

    def counted() -> bool:
        lists = {
            one["metadata"]["name"]: one["status"]["count"] for one in _all(kubectl, "cal") if "status" in one
        }
        whole = lists.get("system", 0)
        return whole > 1 and lists == {"ours": whole, "partner": 1, "partners": 1, "system": whole}

    until(counted, seconds=60, what="all lists counted")
    secret = kubectl.json("get", "secret", "old-gateway-pkcs12")
    assert base64.b64decode(secret["data"]["certificate.p12"]) == (folder / "renewed.pfx").read_bytes()
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner.get("controller")) == ("Certificate", "old-gateway", None)


def _run(block: str) -> None:
    """Run a block of the page: our own commands in this process, where they start at once, the others by a shell."""
    lines = block.replace("\\\n", "").splitlines()
    for ours, found in groupby(lines, key=lambda line: line.startswith("letterlock ")):
        if not ours:
            _shell("\n".join(found))
            continue
        for line in found:
            command, _, file = line.partition(" > ")
            # The library of Kubernetes reads the variable once, when it is imported.
            done = well(*shlex.split(command)[1:], "--kubeconfig", os.environ["KUBECONFIG"])
            if file:
                Path(file).write_text(done.stdout)


def _shell(commands: str) -> None:
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", commands),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"


_WAIT: Final = "kubectl wait --for=condition=Ready mailcert/members --timeout=90s"


def _demo_events(kubectl: Kubectl) -> list[Any]:
    selector = "reason=DemoCertificate,type=Warning,involvedObject.kind=Listener"
    return kubectl.json("get", "events", f"--field-selector={selector}")["items"]


def _prepared(kubectl: Kubectl, ca: OpensslCA) -> None:
    """Back to a self-signed certificate that is due: there is nothing to prepare for one of a CA."""
    spec = {"signed": None, "renewal": {"mode": "Prepare"}, "days": 30}
    kubectl("patch", "mailcert/mx", "--type=merge", "-p", json.dumps({"spec": spec}))
    until(lambda: _status(kubectl, "mailcert/mx").get("next"), what="a next certificate", seconds=60)


def _status(kubectl: Kubectl, what: str) -> dict[str, Any]:
    return kubectl.json("get", what).get("status") or {}


def _all(kubectl: Kubectl, what: str) -> list[dict[str, Any]]:
    return kubectl.json("get", what)["items"]


def _ready(item: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in item["status"]["conditions"])


def test_a_change_that_comes_in_between_is_kept(kubectl: Kubectl, kubeconfig: Path):
    kubectl.apply(resource("Certificate", "mx", subject={"commonName": "mx{ordinal}.example.com"}))
    entry = {"certificate": "-----BEGIN CERTIFICATE-----"}
    turns: list[str] = []

    def sign(manifest: dict[str, Any]) -> None:
        present = manifest["spec"].get("signed", [])
        if not turns:  # another upload, for another member, after we looked
            others = {"spec": {"signed": [{"member": "default-1", **entry}]}}
            kubectl("patch", "mailcert/mx", "--type=merge", "-p", json.dumps(others))
        turns.append("turn")
        manifest["spec"]["signed"] = [*present, {"member": "default-0", **entry}]

    target(Where(kubeconfig=str(kubeconfig))).change("Certificate", "mx", sign)
    assert len(turns) == 2
    signed = kubectl.json("get", "mailcert/mx")["spec"]["signed"]
    assert [one["member"] for one in signed] == ["default-1", "default-0"]


def test_nothing_is_overwritten_unasked_and_what_is_wrong_changes_nothing(
    kubectl: Kubectl, kubeconfig: Path, tmp_path: Path
):
    kubectl.apply({**GATEWAY, "spec": {**GATEWAY["spec"], "replicas": 2}})
    access = ("--kubeconfig", kubeconfig)
    create = ("certificate", "create", "--common-name", "*.example.com", "--level", "cluster", *access)
    assert "warning" not in well(*create).stderr
    assert "there already in namespace" in letterlock(*create).error
    made = kubectl.json("get", "mailcert/wildcard.example.com", "--show-managed-fields")
    assert made["metadata"]["managedFields"][0]["manager"] == "letterlock-cli", "the operator's is another"
    assert made["spec"]["subject"] == {"commonName": "*.example.com"}

    key, certificate = pair(tmp_path, "mx.example.com")
    file, secret = tmp_path / "mx.p12", tmp_path / "passphrase"
    secret.write_text("guess")
    openssl(
        "pkcs12", "-export", "-inkey", key, "-in", certificate, "-out", file, "-passout", f"pass:{PASSPHRASE}"
    )
    bring = ("certificate", "import", "brought", file, "--no-wait", "--passphrase-file", secret, *access)
    assert letterlock(*bring).error.startswith("WrongPassphrase: ")
    assert _names(kubectl, "mailcert") == ["wildcard.example.com"]
    assert _names(kubectl, "secret") == []
    kubectl("create", "secret", "generic", "brought-pkcs12", "--from-literal=theirs=1")
    secret.write_text(PASSPHRASE)
    assert letterlock(*bring).error.startswith("NameTaken: Secret brought-pkcs12")
    assert _names(kubectl, "mailcert") == ["wildcard.example.com"]
    kubectl("delete", "secret", "brought-pkcs12")
    well(*bring)
    assert _names(kubectl, "secret") == ["brought-pkcs12"]
    assert "--replace" in letterlock(*bring).error

    # Each member's own, one after the other: only what is there already needs --replace.
    members = ("certificate", "import", "members", file, *bring[4:], "--member")
    well(*members, "default-0")
    well(*members, "default-1")
    assert "--replace" in letterlock(*members, "default-1").error
    spec = kubectl.json("get", "mailcert/members")["spec"]
    assert (spec["level"], spec["pkcs12"]["secretKeyRef"]["name"]) == ("Machine", "members-pkcs12-{member}")

    said = well(*bring, "--replace", "--member", "default-0").stderr
    assert "all other members need a file of their own" in said

    lists = ("calist", "import", "partners")
    kubectl.apply(resource("CAList", "partners", scope="Referenced", certificates=certificate.read_text()))
    well(*lists, certificate, *access)
    before = kubectl.json("get", "cal/partners")
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(
        OpensslCA(_made(tmp_path / "ca")).sign(openssl("req", "-new", "-key", key, "-subj", "/CN=a"))
    )
    assert letterlock(*lists, leaf, *access).error.startswith("Empty: ")
    assert kubectl.json("get", "cal/partners") == before
    assert before["spec"]["scope"] == "Referenced"
    assert "# Subject: CN=mx.example.com" in before["spec"]["certificates"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _names(kubectl: Kubectl, what: str) -> list[str]:
    return [one["metadata"]["name"] for one in _all(kubectl, what)]
