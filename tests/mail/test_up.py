"""The main job without a cluster: `letterlock up` on a copy of `examples/quickstart`, between real Postfixes."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.certificates.programs import openssl
from tests.harness import letters, waiting
from tests.harness.certificates import Authority
from tests.harness.ports import free_port
from tests.harness.postfix import Postfix
from tests.harness.quickstart import resource
from tests.harness.swaks import swaks

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart"
COMMAND = (sys.executable, "-W", "error", "-m", "letterlock_cli")


@dataclass(frozen=True)
class Served:
    """A folder that `letterlock up` serves."""

    folder: Path
    state: Path
    port: int
    receiver_port: int
    process: subprocess.Popen[bytes]
    output: Path

    def status(self, kind: str, name: str) -> dict[str, Any]:
        path = self.state / "status" / kind / f"{name}.yaml"
        return yaml.safe_load(path.read_text())["status"] if path.is_file() else {}

    def condition(self, kind: str, name: str, of: str) -> tuple[str, str]:
        found = [one for one in self.status(kind, name).get("conditions", []) if one["type"] == of]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def wait(self, kind: str, name: str, of: str, status: str, reason: str | None = None) -> None:
        def seen() -> bool:
            assert self.process.poll() is None, self.output.read_text()
            found = self.condition(kind, name, of)
            return found[0] == status and reason in (None, found[1])

        waiting.until(seen, seconds=60, what=f"{kind}/{name} {of}={status} ({reason})")

    def mailbox_certificate(self) -> bytes:
        secret = self.state / "secrets" / "letterlock-cert-mailbox"
        return (secret / "tls.key").read_bytes() + (secret / "tls.crt").read_bytes()

    def put(self, file: str, *manifests: dict[str, Any]) -> None:
        """Write manifests into the folder, as an editor does: in one step."""
        scratch = self.state / "scratch.yaml"
        scratch.write_text(yaml.safe_dump_all(manifests))
        scratch.replace(self.folder / file)

    def letterlock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (*COMMAND, *arguments),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder.parent,
        )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    folder, state, output = tmp_path / "quickstart", tmp_path / "state", tmp_path / "output"
    shutil.copytree(EXAMPLE, folder)
    port, receiver_port = free_port(), free_port()
    for path in folder.glob("*.yaml"):
        text = (
            path.read_text()
            .replace("port: 2525", f"port: {port}")
            .replace("port: 2526", f"port: {receiver_port}")
        )
        path.write_text(text)
    with output.open("wb") as log:
        process = subprocess.Popen(
            (*COMMAND, "up", str(folder), "--state", str(state)),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    made = Served(folder, state, port, receiver_port, process, output)
    try:
        made.wait("Listener", "public", "Programmed", "True")
        yield made
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        status = process.wait(30)
        print(output.read_text())
        _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == [], "Ctrl-C leaves nothing running"
    assert status == 0


def deliver(served: Served, receiver: Postfix, directory: Path) -> bytes:
    message = letters.letter(to="someone@example.com")
    done = swaks(served.port, to="someone@example.com", data=message, directory=directory)
    assert done.accepted, done.text
    return arrived(receiver, message)


def arrived(receiver: Postfix, message: bytes) -> bytes:
    return waiting.until(
        lambda: letters.arrived(message, receiver.messages()), seconds=60, what="the message, byte for byte"
    )


def receiving(served: Served, certificate: bytes | None = None) -> Postfix:
    return Postfix.receiving(
        certificate=certificate or served.mailbox_certificate(),
        domains=("example.com",),
        port=served.receiver_port,
    )


def test_mail_of_postfix_and_swaks_goes_over_verified_tls_into_a_mailbox(
    served: Served, tmp_path: Path
) -> None:
    listener_pem = (served.state / "secrets" / "letterlock-cert-mx" / "tls.crt").read_bytes()
    with (
        receiving(served) as receiver,
        Postfix.sending(served.port, tls="secure", ca=listener_pem, match=["mx.example.com"]) as sender,
    ):
        assert "TLSv1.3" in letters.added_headers(b"", deliver(served, receiver, tmp_path))
        message = letters.letter(to="someone@example.com")
        sender.submit(message, to="someone@example.com")
        arrived(receiver, message)
    served.wait("DestinationControl", "example-com", "Delivering", "True", "Delivered")
    last = served.status("DestinationControl", "example-com")["lastTLS"]
    assert (last["verified"], last["matchedName"]) == (True, "example.com")


def test_an_unlisted_ca_keeps_the_message_until_a_file_lists_it(served: Served, tmp_path: Path) -> None:
    other = Authority()
    message = letters.letter(to="someone@example.com")
    with (
        receiving(served, other.issue("example.com")) as receiver,
        Postfix.receiving(certificate=other.issue("watch.example"), domains=("watch.example",)) as watchers,
    ):
        routes = [{"host": "localhost", "port": watchers.port}]
        control = {"domains": ["watch.example"], "tls": {"mode": "Required"}, "routes": routes}
        served.put("watchers.yaml", resource("DestinationControl", "watchers", **control))
        gateway = yaml.safe_load((served.folder / "gateway.yaml").read_text())
        gateway["spec"]["delivery"]["tlsAlert"] = "Enabled"
        # What waits is tried again after an hour, unless something makes it due.
        gateway["spec"]["delivery"]["retry"] = {"initial": "1h", "max": "1h"}
        gateway["spec"]["alerts"] = {"recipients": [{"address": "ops@watch.example"}]}
        served.put("gateway.yaml", gateway)
        served.wait("DestinationControl", "watchers", "Programmed", "True")
        assert swaks(served.port, to="someone@example.com", data=message, directory=tmp_path).accepted
        served.wait("DestinationControl", "example-com", "Delivering", "False", "NotTrusted")
        assert receiver.messages() == []
        [alert] = waiting.until(watchers.messages, seconds=60, what="the alert in the mailbox")
        assert b"TLS required for example.com failed: NotTrusted" in alert
        # Listed and switched off it vouches for nobody; the system list can be switched off beside it.
        partner = {"certificates": other.pem.decode()}
        served.put("partner.yaml", resource("CAList", "partner", enabled=False, **partner))
        served.put("system.yaml", resource("CAList", "system", type="System", enabled=False))
        served.wait("CAList", "partner", "Ready", "True", "Disabled")
        served.wait("CAList", "system", "Ready", "True", "Disabled")
        served.wait("CAList", "partner", "Programmed", "True")
        assert receiver.messages() == []
        served.put("partner.yaml", resource("CAList", "partner", **partner))
        arrived(receiver, message)
        served.wait("DestinationControl", "example-com", "Delivering", "True", "Delivered")


def test_an_edit_is_taken_and_a_mistake_is_named_while_mail_flows(served: Served, tmp_path: Path) -> None:
    control = {"domains": ["more.example"], "tls": {"mode": "Required"}}
    served.put("more.yaml", resource("DestinationControl", "more", **control))
    served.wait("DestinationControl", "more", "Programmed", "True")
    served.put(
        "more.yaml", resource("DestinationControl", "more", **{**control, "tls": {"mode": "Sometimes"}})
    )
    waiting.until(
        lambda: "Sometimes" in served.output.read_text() or "spec.tls.mode" in served.output.read_text(),
        what="an error that names the field",
    )
    assert "more.yaml" in served.output.read_text()
    with receiving(served) as receiver:
        deliver(served, receiver, tmp_path)
    assert served.condition("Listener", "public", "Programmed")[0] == "True"


def test_keys_and_state_are_for_their_owner_alone(served: Served) -> None:
    secrets = [path for path in (served.state / "secrets").rglob("*") if path.is_file()]
    assert secrets
    assert {path.stat().st_mode & 0o077 for path in secrets} == {0}
    assert served.state.stat().st_mode & 0o077 == 0


def test_a_second_one_on_the_same_state_is_refused_in_one_line(served: Served) -> None:
    done = served.letterlock("up", str(served.folder), "--state", str(served.state))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["listener", "list"], ["public", "Preferred", "mx"], id="listener list"),
        pytest.param(["destination", "list"], ["example.com", "RequiredVerify"], id="destination list"),
        pytest.param(["certificate", "list"], ["mx.example.com", "Cluster"], id="certificate list"),
        pytest.param(["certificate", "show", "mx"], ["CN=mx.example.com"], id="certificate show"),
        pytest.param(["calist", "list"], ["mailbox", "system"], id="calist list"),
        pytest.param(["status"], ["default", "public"], id="status"),
    ],
)
def test_commands_show_what_is(served: Served, arguments: list[str], says: list[str]) -> None:
    done = served.letterlock(*arguments, "--dir", str(served.folder), "--state", str(served.state))
    assert done.returncode == 0, done.stderr
    for word in says:
        assert word in done.stdout


def test_a_certificate_is_shown_with_its_chain_its_request_and_as_a_file(
    served: Served, tmp_path: Path
) -> None:
    where = ("--dir", str(served.folder), "--state", str(served.state))

    def said(*arguments: str) -> str:
        done = served.letterlock("certificate", *arguments, *where)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = said("show", "mx")
    assert " 0 s:CN=mx.example.com" in shown
    assert "used by: Listener/public" in shown
    assert "renews: 20" in shown
    assert "PRIVATE" not in shown
    certificate = (served.state / "secrets/letterlock-cert-mx/tls.crt").read_text()
    assert openssl("x509", text=shown.encode()).decode().strip() == certificate.strip()
    # The request is for the same key and names, and signed with that key.
    request = said("csr", "mx").encode()
    assert b"DNS:mx.example.com" in openssl("req", "-verify", "-noout", "-text", text=request)
    assert openssl("req", "-noout", "-pubkey", text=request) == openssl(
        "x509", "-noout", "-pubkey", text=certificate.encode()
    )
    passphrase, file = tmp_path / "passphrase", tmp_path / "mx.p12"
    passphrase.write_text("correct horse\n")
    said("export", "mx", str(file), "--passphrase-file", str(passphrase))
    assert file.stat().st_mode & 0o777 == 0o600
    opened = openssl("pkcs12", "-in", file, "-passin", "pass:correct horse", "-nodes")
    key = (served.state / "secrets/letterlock-cert-mx/tls.key").read_bytes()
    assert openssl("pkey", text=opened) == openssl("pkey", text=key)
    again = served.letterlock(
        "certificate", "export", "mx", str(file), "--passphrase-file", str(passphrase), *where
    )
    assert again.returncode == 1
    assert again.stderr.splitlines() == [
        f"error: {file} is there already: choose another name, or give --force"
    ]
    for arguments in (("csr", "none"), ("show", "mx", "--member", "default-7")):
        wrong = served.letterlock("certificate", *arguments, *where)
        assert wrong.returncode == 1
        assert len(wrong.stderr.strip().splitlines()) == 1, wrong.stderr
