"""Mishaps while certificates change: operators killed at any moment, two of them at once, a clock that jumps (C11).

Never two keys for one certificate, never a key without its certificate in the Secret or on the wire.
"""

import base64
import json
import random
import subprocess
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.faults import Faults
from tests.harness.kubelet import Kubelet
from tests.harness.onlookers import Onlooker, fingerprint
from tests.harness.operators import operator
from tests.harness.quickstart import CERTIFICATE, GATEWAY, LISTENER, holds
from tests.harness.waiting import until

MX, INBOUND, SECRET = (
    "certificates.letterlock.dev/mx",
    "listeners.letterlock.dev/inbound",
    "letterlock-cert-mx",
)
PORT = 10025  # 25 in a pod
ROUNDS = 2


@dataclass(frozen=True)
class Version:
    """The Secret at one moment."""

    inputs: str
    key: bytes
    certificate: bytes
    """DER."""

    @classmethod
    def read(cls, item: dict[str, Any]) -> "Version":
        data = {name: base64.b64decode(value) for name, value in item["data"].items()}
        certificate = x509.load_pem_x509_certificate(data["tls.crt"])
        key = serialization.load_pem_private_key(data["tls.key"], None)
        request = x509.load_pem_x509_csr(data["tls.csr"])
        assert key.public_key() == certificate.public_key() == request.public_key(), (
            "a key without its certificate"
        )
        return cls(
            data["inputs"].decode(), data["tls.key"], certificate.public_bytes(serialization.Encoding.DER)
        )


@contextmanager
def versions(kubectl: Kubectl, folder: Path) -> Generator[list[Version]]:
    """Every version of the Secret while the body runs; the list is filled on leaving."""
    found: list[Version] = []
    file = folder / "versions"
    command = (
        str(kubectl.program),
        "--kubeconfig",
        str(kubectl.kubeconfig),
        "--namespace",
        kubectl.namespace,
    )
    with file.open("wb") as output:
        watching = subprocess.Popen(
            (*command, "get", "secret", SECRET, "--watch", "--output=json"), stdout=output
        )
    try:
        until(lambda: '"resourceVersion"' in file.read_text(), what="the first version")
        yield found
        last = kubectl.json("get", "secret", SECRET)["metadata"]["resourceVersion"]
        until(lambda: f'"resourceVersion": "{last}"' in file.read_text(), what="the last version")
    finally:
        watching.terminate()
        watching.wait()
    text, decoder = file.read_text().strip(), json.JSONDecoder()
    while text:
        item, end = decoder.raw_decode(text)
        found.append(Version.read(item))
        text = text[end:].strip()


def killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    process.returncode = 0  # it did not end well, and was not meant to


def change(kubectl: Kubectl, number: int) -> None:
    """Ask for another key and another subject."""
    spec = {
        "subject": {"organization": f"Change {number}"},
        "privateKey": {"algorithm": "ECDSA", "size": 256 if number % 2 else 384},
    }
    kubectl("patch", MX, "--type=merge", f"--patch={json.dumps({'spec': spec})}")


def test_operators_that_are_two_and_are_killed_make_one_key_for_one_certificate(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    numbers = iter(range(100))
    dice = random.Random(20260105)

    def started(ends: ExitStack) -> subprocess.Popen[bytes]:
        log = tmp_path / f"operator-{next(numbers)}.log"
        return ends.enter_context(operator(api_server.kubeconfig, namespace, log))

    def done(number: int) -> bool:
        status: dict[str, str] = kubectl.json("get", MX).get("status") or {}
        return f"O=Change {number}" in status.get("subject", "") and holds(kubectl, INBOUND, "Programmed")

    with ExitStack() as ends, Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet:
        running = [started(ends), started(ends)]
        kubectl.apply(GATEWAY, CERTIFICATE, LISTENER)
        until(lambda: holds(kubectl, INBOUND, "Programmed"), seconds=90, what="the listener")
        with (
            versions(kubectl, tmp_path) as seen,
            Onlooker(kubelet.address("default-0"), PORT) as look,
        ):
            for number in range(ROUNDS):
                change(kubectl, number)
                time.sleep(dice.uniform(0, 0.4))  # whatever they are about
                # Now one of them, now both.
                victims = running if number % 2 else running[:1]
                for one in victims:
                    killed(one)
                running = [one for one in running if one not in victims]
                running += [started(ends) for _ in victims]
                until(lambda number=number: done(number), seconds=120, what=f"change {number}")
            look.looks(2)
    by_inputs: dict[str, set[tuple[bytes, bytes]]] = defaultdict(set)
    for one in seen:
        by_inputs[one.inputs].add((one.key, one.certificate))
    assert len(by_inputs) == ROUNDS + 1
    assert {len(pairs) for pairs in by_inputs.values()} == {1}, (
        "one key and one certificate for each that was asked"
    )
    assert len({one.key for one in seen}) == ROUNDS + 1
    assert look.only([fingerprint(one.certificate) for one in seen]), look.failures


def test_a_clock_that_jumps_renews_with_the_same_key_and_back_again(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    faults = Faults(tmp_path, tmp_path / "none")
    days = 86400

    def jump(to: int, number: int) -> None:
        faults.set(clock_seconds=to * days)
        # Whatever happens next, it looks at the clock.
        kubectl("label", "--overwrite", MX, f"jump=number-{number}")

    def start() -> str:
        return kubectl.json("get", MX)["status"]["notBefore"]

    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log", environment=faults.environment),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet,
    ):
        kubectl.apply(GATEWAY, {**CERTIFICATE, "spec": {**CERTIFICATE["spec"], "days": 90}}, LISTENER)
        until(lambda: holds(kubectl, INBOUND, "Programmed"), seconds=90, what="the listener")
        first = start()
        with (
            versions(kubectl, tmp_path) as seen,
            Onlooker(kubelet.address("default-0"), PORT) as look,
        ):
            for number, to in enumerate((61, 0, 3000)):
                before = kubectl.json("get", MX)["status"]["fingerprint"]
                jump(to, number)
                fresh = until(
                    lambda before=before: (
                        (found := kubectl.json("get", MX)["status"]["fingerprint"]) != before and found
                    ),
                    seconds=90,
                    what=f"a certificate of day {to}",
                )
                look.until_served(fresh)
                assert (start()[:10] == first[:10]) is (to == 0)
    assert len({one.key for one in seen}) == 1, "peers may know the key"
    assert len({one.certificate for one in seen}) == 4
    assert look.only([fingerprint(one.certificate) for one in seen]), look.failures
