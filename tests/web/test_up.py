"""The pages under `letterlock up`, switched on as docs/https.md says, with users that the real htpasswd made."""

import ssl
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cli.commands import letterlock
from tests.cli.upped import Upped, quickstart
from tests.harness.ports import free_port
from tests.harness.waiting import until

PASSWORD = "correct horse"
NAME = "mx.example.com"


@pytest.fixture
def up(tmp_path: Path):
    with quickstart(tmp_path) as run:
        run.start()
        run.programmed()
        yield run


def manage(up: Upped, **management: object) -> None:
    """Give the MailGateway this management."""
    file = up.folder / "gateway.yaml"
    manifest = yaml.safe_load(file.read_text())
    manifest["spec"]["management"] = management
    file.write_text(yaml.safe_dump(manifest))


def curl(up: Upped, port: int, path: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Ask the pages with the real curl, which keeps cookies as a browser does."""
    jar = str(up.state.parent / "cookies")
    command = [
        "curl",
        "-sS",
        "-m",
        "60",
        "-b",
        jar,
        "-c",
        jar,
        "--resolve",
        f"{NAME}:{port}:127.0.0.1",
        *options,
    ]
    return subprocess.run(
        [*command, f"https://{NAME}:{port}{path}"], capture_output=True, text=True, check=False
    )


def test_switched_on_signed_in_given_a_certificate_and_switched_off(up: Upped) -> None:
    port = free_port()
    https = {"port": port, "address": "127.0.0.1"}
    manage(up, https=https, usersSecretRef={"name": "managers"})

    def says(condition: str, reason: str) -> bool:
        return up.condition("MailGateway", "default", condition).get("reason") == reason

    # Nobody can sign in yet: nothing is shown, and it is said why.
    until(lambda: says("Accepted", "SecretNotFound"), what="SecretNotFound", seconds=60)
    until(lambda: curl(up, port, "/sign-in", "-k").stdout, what="an answer", seconds=60)
    assert curl(up, port, "/", "-k", "-o", "/dev/null", "-w", "%{http_code}").stdout == "503"

    made = subprocess.run(
        ["htpasswd", "-nbB", "-C", "5", "ada", PASSWORD], capture_output=True, text=True, check=True
    )
    users = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "managers"},
        "stringData": {"htpasswd": made.stdout},
    }
    (up.folder / "managers.yaml").write_text(yaml.safe_dump(users))
    until(lambda: says("Programmed", "Programmed"), what="Programmed", seconds=60)

    # The demo certificate, and everything that says so.
    assert up.condition("MailGateway", "default", "DemoCertificate")["status"] == "True"
    assert (
        "MailGateway/default DemoCertificate"
        in letterlock("status", "--dir", up.folder, "--state", up.state).stderr
    )
    assert (
        "HTTPS management runs with the demo certificate" in (up.state / "log" / "default-0.log").read_text()
    )
    until(lambda: "HTTPS management runs with the demo certificate" in up.stderr, what="a line on stderr")
    assert "Demo certificate." in curl(up, port, "/sign-in", "-k").stdout
    assert "certificate" in curl(up, port, "/").stderr  # nobody can verify it

    def sign_in(*options: str) -> str:
        form = ["--data-urlencode", "user=ada", "--data-urlencode", f"password={PASSWORD}"]
        origin = ["-H", f"Origin: https://{NAME}:{port}", "-H", "Sec-Fetch-Site: same-origin"]
        return curl(up, port, "/sign-in?next=/listeners", *form, *origin, "-L", *options).stdout

    page = sign_in("-k")
    assert "<h1>Listeners</h1>" in page
    assert "Demo certificate." in page
    assert str(up.listener_port) in page

    # A certificate of one's own: the banner goes, the session stays, and the certificate is in use.
    manage(up, https={**https, "certificateRef": {"name": "mx"}}, usersSecretRef={"name": "managers"})
    pem = up.state / "secrets" / "letterlock-cert-mx-default-0" / "tls.crt"
    if not pem.exists():
        pem = up.state / "secrets" / "letterlock-cert-mx" / "tls.crt"
    until(
        lambda: "Needs attention" in curl(up, port, "/", "--cacert", str(pem)).stdout,
        what="served",
        seconds=60,
    )
    assert "Demo certificate." not in curl(up, port, "/", "--cacert", str(pem)).stdout
    until(lambda: says("Programmed", "Programmed"), what="Programmed again", seconds=60)
    assert not up.condition("MailGateway", "default", "DemoCertificate")
    assert "MailGateway/default" in up.status("Certificate", "mx")["usedBy"]
    assert PASSWORD not in (up.state / "log" / "default-0.log").read_text()
    keys = [one.read_text() for one in (up.state / "secrets").glob("*/tls.key")]
    assert keys
    for path in ("/", "/listeners", "/listeners/public"):
        shown = curl(up, port, path, "--cacert", str(pem)).stdout
        assert "PRIVATE KEY" not in shown
        assert "$2y$" not in shown

    manage(up)
    until(lambda: curl(up, port, "/", "-k").returncode == 7, what="nobody listens", seconds=60)
    until(lambda: says("Programmed", "Programmed"), what="Programmed without pages", seconds=60)
    with pytest.raises(ConnectionRefusedError):
        ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
