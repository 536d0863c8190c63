"""Certificates and CA lists by commands, on a folder that `letterlock up` serves (C1, C3, C4, C6, C8, A4, A5).

The peers are openssl as a CA, openssl and Java as makers of files, and Postfix as whoever verifies the listener.
"""

import base64
import json
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.certificates.programs import PASSPHRASE, keytool, openssl, pair
from tests.cli.commands import letterlock, well
from tests.cli.upped import Upped, quickstart
from tests.decide.authority import intermediate
from tests.decide.builders import NOW
from tests.harness import letters
from tests.harness.issued import Issued
from tests.harness.openssl_ca import OpensslCA
from tests.harness.ports import free_port
from tests.harness.postfix import Postfix
from tests.harness.waiting import until


@dataclass(frozen=True)
class Site:
    """A gateway that serves the demo certificate at first, and what its administrator has at hand."""

    run: Upped
    files: Path
    ca: OpensslCA

    @property
    def where(self) -> tuple[str, ...]:
        return ("--dir", str(self.run.folder), "--state", str(self.run.state))

    @property
    def manifests(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.run.folder.iterdir()}

    @property
    def passphrase(self) -> Path:
        return self.file("passphrase", f"{PASSPHRASE}\n")

    def file(self, name: str, content: str | bytes) -> Path:
        made = self.files / name
        made.write_bytes(content.encode() if isinstance(content, str) else content)
        return made

    def put(self, name: str, text: str) -> None:
        """Write a manifest into the folder in one step."""
        self.file("scratch", text).replace(self.run.folder / name)

    def pkcs12(self, name: str, *options: str | Path) -> Path:
        made = self.files / name
        openssl("pkcs12", "-export", "-out", made, "-passout", f"pass:{PASSPHRASE}", *options)
        return made

    def serves(self, fingerprint: str, port: int = 0) -> bool:
        """Whether the listener presents the certificate with this sha256, to a client that takes weak ones."""
        address = f"127.0.0.1:{port or self.run.listener_port}"
        done = subprocess.run(
            (
                "openssl",
                "s_client",
                "-starttls",
                "smtp",
                "-connect",
                address,
                "-cipher",
                "DEFAULT@SECLEVEL=0",
            ),
            input=b"QUIT\r\n",
            capture_output=True,
            timeout=60,
            check=False,
        )
        shown = openssl("x509", "-noout", "-fingerprint", "-sha256", text=done.stdout)
        return shown.decode().strip().partition("=")[2].replace(":", "").lower() == fingerprint


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    (directory / "files").mkdir()
    (directory / "ca").mkdir()
    with quickstart(directory) as run:
        run.edit("listener.yaml", "  certificateRefs:\n    - name: mx\n", "  certificateRefs: []  # later\n")
        run.start()
        run.programmed()
        yield Site(run, directory / "files", OpensslCA(directory / "ca"))
        assert run.stop(signal.SIGINT) == 0


def test_the_demo_certificate_is_loud(site: Site):
    condition = site.run.condition("Listener", "public", "DemoCertificate")
    assert condition["status"] == "True"
    assert "warning: Listener/public DemoCertificate: it serves the demo certificate" in site.run.stderr
    log = (site.run.state / "log/default-0.log").read_text()
    entries = [json.loads(line) for line in log.splitlines()]
    told = [one for one in entries if "listener public runs with the demo certificate" in one["message"]]
    assert told
    assert {one["level"] for one in told} == {"warning"}
    assert "everybody knows" not in log
    for command in (("status",), ("listener", "list")):
        assert "warning: Listener/public DemoCertificate" in well(*command, *site.where).stderr


def test_a_created_certificate_signed_by_an_intermediate_is_verified_by_postfix_against_the_root(site: Site):
    made = well(
        *("certificate", "create", "--common-name", "mx7.example.com", "--organization", "Example Ltd"),
        *("--country", "no", "--algorithm", "ecdsa", "--level", "cluster", "--dns-name", "mx7.example.com"),
        *("--dir", site.run.folder),
    )
    name = "mx7.example.com"
    assert f"Certificate/{name} written to" in made.stdout
    assert yaml.safe_load((site.run.folder / f"certificate-{name}.yaml").read_text())["spec"]["subject"] == {
        "commonName": name,
        "organization": "Example Ltd",
        "country": "NO",
    }
    again = letterlock("certificate", "create", "--common-name", name, "--dir", site.run.folder)
    assert "there already" in again.error
    until(lambda: site.run.status("Certificate", name).get("request"), what="a request", seconds=60)
    site.run.edit(
        "listener.yaml", "  certificateRefs: []  # later\n", f"  certificateRefs: [{{name: {name}}}]\n"
    )
    request = well("certificate", "csr", name, *site.where).stdout.encode()
    answer = site.file("answer.pem", site.ca.sign(request))
    above = site.file("above.pem", site.ca.root.read_bytes() + site.ca.intermediate.read_bytes())

    # For another key, and without what links it: refused, and nothing is written.
    before = site.manifests
    upload = ("certificate", "upload", name, "--certificate")
    _, stranger = pair(site.files, "stranger.example")
    assert letterlock(*upload, stranger, *site.where).error.startswith("KeyMismatch: ")
    wrong = site.file("wrong.pem", answer.read_bytes() + site.ca.sign(_request(site)))
    assert letterlock(*upload, wrong, *site.where).error.startswith("ChainBroken: ")
    old = ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    expired = site.file("expired.pem", site.ca.sign(request, *old))
    assert letterlock(*upload, expired, *site.where).error.startswith("Expired: ")
    assert site.manifests == before

    done = well(*upload, answer, "--intermediates", above, *site.where)
    for word in ("CN=mx7.example.com", "CN=Tests Intermediate", "29 days left", "Listener/public"):
        assert word in done.stdout
    (signed,) = yaml.safe_load((site.run.folder / f"certificate-{name}.yaml").read_text())["spec"]["signed"]
    assert signed["intermediates"].count("BEGIN CERTIFICATE") == 1, "the root is not served"
    message = letters.letter(to="someone@example.com")
    with Postfix.sending(
        site.run.listener_port, tls="secure", ca=site.ca.root.read_bytes(), match=[name]
    ) as sender:
        sender.submit(message, to="someone@example.com")
        until(lambda: "status=sent" in sender.log, what="a delivery over verified TLS", seconds=60)
        assert "Verified TLS connection established" in sender.log

    shown = well("certificate", "show", name, *site.where).stdout
    assert " 0 s:C=NO,O=Example Ltd,CN=mx7.example.com\n   i:CN=Tests Intermediate" in shown
    assert " 1 s:CN=Tests Intermediate\n   i:CN=Tests Root" in shown
    listed = well("certificate", "list", *site.where).stdout
    row = next(line for line in listed.splitlines() if line.startswith(name))
    for word in ("CN=Tests Intermediate", "(29 days left)", "Cluster", "Listener/public", "True"):
        assert word in row
    (found,) = [
        one
        for one in json.loads(well("certificate", "list", "-o", "json", *site.where).stdout)["items"]
        if one["metadata"]["name"] == name
    ]
    assert found["status"]["usedBy"] == ["Listener/public"]


def _request(site: Site) -> bytes:
    return openssl(
        *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", site.files / "other.key"),
        *("-subj", "/CN=other.example"),
    )


def test_a_weak_key_is_made_and_warned_of(site: Site):
    done = well(
        *("certificate", "create", "weak", "--common-name", "weak.example", "--key-size", "1024"),
        *("--dry-run", "--dir", site.run.folder),
    )
    assert "WeakKey" in done.stderr
    assert yaml.safe_load(done.stdout)["spec"]["privateKey"] == {"size": 1024}
    assert not (site.run.folder / "certificate-weak.yaml").exists()


def test_weak_pairs_are_served_and_keep_nothing_else_back(site: Site):
    """What members cannot load would keep back every later change: OpenSSL's default is stricter than decisions are."""
    key, _ = pair(site.files, "old.example.com")
    request = openssl("req", "-new", "-key", key, "-subj", "/CN=old.example.com")
    signed = site.ca.sign(request, "-md", "sha1") + site.ca.intermediate.read_bytes()
    beside = textwrap.indent(site.ca.root.read_text() + key.read_text(), "  ")
    secret = {
        "tls.key": base64.b64encode(beside.encode()).decode(),
        "tls.crt": base64.b64encode(signed).decode(),
    }
    site.put(
        "sha1-secret.yaml",
        yaml.safe_dump({**_resource("Secret", "sha1", {"data": secret}), "apiVersion": "v1"}),
    )
    ports: dict[str, int] = {}
    for name, spec in {
        "sha1": {"level": "Machine", "secretRef": {"name": "sha1"}},
        "weak": {"level": "Cluster", "dnsNames": ["weak.example"], "privateKey": {"size": 1024}},
    }.items():
        site.put(f"{name}.yaml", yaml.safe_dump(_resource("Certificate", name, {"spec": spec})))
        ports[name] = free_port()
        listening = {
            "type": "Public",
            "address": "127.0.0.1",
            "port": ports[name],
            "certificateRefs": [{"name": name}],
            "defaultPolicy": {"tls": {"mode": "Preferred"}},
        }
        site.put(f"{name}-listener.yaml", yaml.safe_dump(_resource("Listener", name, {"spec": listening})))
        until(lambda: site.run.condition("Listener", name, "Programmed").get("status") == "True", what=name)  # noqa: B023 - called at once
        assert site.serves(site.run.status("Certificate", name)["fingerprint"], ports[name])
    assert "SHA1" in site.run.condition("Certificate", "sha1", "WeakKey")["message"]
    assert "RSA 1024" in site.run.condition("Certificate", "weak", "WeakKey")["message"]
    for path in [*site.run.folder.glob("sha1*"), *site.run.folder.glob("weak*")]:
        path.unlink()
    until(lambda: not site.run.status("Listener", "weak"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--common-name", "mx.example.com", "--level", "Cluster"), "NotClusterCapable"),
        (("--common-name", "mx.example.com", "--country", "Germany"), "spec.subject.country"),
        (("--common-name", "mx.example.com", "--key-size", "512"), "spec.privateKey.size"),
        (("--common-name", "mx example"), "write a DNS name"),
        (("--common-name", "☃.example"), "no domain name (IDNA"),
        (("--organization", "Example"), "--common-name"),
    ],
)
def test_what_the_api_server_would_refuse_is_refused(site: Site, options: tuple[str, ...], says: str):
    before = site.manifests
    assert says in letterlock("certificate", "create", *options, "--dir", site.run.folder).error
    assert site.manifests == before


def test_names_that_cannot_be_are_said_and_take_nothing_down(site: Site):
    def said(kind: str, name: str, where: str) -> bool:
        accepted = site.run.condition(kind, name, "Accepted")
        return accepted.get("reason") == "Invalid" and where in accepted["message"]

    snowman = {"spec": {"dnsNames": ["☃.example"], "level": "Cluster"}}
    before = (site.run.folder / "gateway.yaml").read_text()
    gateway = yaml.safe_load(before)
    gateway["spec"]["hostname"] = "mx_é.example"
    site.put("gateway.yaml", yaml.safe_dump(gateway))
    site.put("snowman.yaml", yaml.safe_dump(_resource("Certificate", "snowman", snowman)))
    mapped = {
        "spec": {
            "type": "Public",
            "port": free_port(),
            "address": "127.0.0.1",
            "domainMap": [{"from": "☃.example", "to": "example.com"}],
        }
    }
    site.put("mapped.yaml", yaml.safe_dump(_resource("Listener", "mapped", mapped)))
    until(lambda: said("Certificate", "snowman", "☃.example is no domain name"))
    until(lambda: said("Listener", "mapped", "correct it in defaultDomain or domainMap"))
    until(lambda: said("MailGateway", "default", "spec.hostname: mx_é.example"))
    site.put("gateway.yaml", before)
    for file in ("snowman.yaml", "mapped.yaml"):
        (site.run.folder / file).unlink()
    until(lambda: site.run.condition("MailGateway", "default", "Accepted")["status"] == "True")
    assert site.run.process.poll() is None


def _resource(kind: str, name: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "letterlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, **more}


def test_files_of_openssl_and_java_are_imported_and_served(site: Site):
    key, certificate = pair(site.files, "mx8.example.com")
    others = site.file("others.pem", site.ca.intermediate.read_bytes())
    first = site.pkcs12("first.p12", "-inkey", key, "-in", certificate, "-certfile", others)
    arguments = ("--passphrase-file", site.passphrase, *site.where)
    done = well("certificate", "import", "brought", first, *arguments)
    for word in ("subject", "CN=mx8.example.com", "self-signed", "29 days left", "programmed   True"):
        assert word in done.stdout
    secret = site.run.folder / "secret-brought-pkcs12.yaml"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert PASSPHRASE not in done.stdout + done.stderr

    # Another file in its place, by Java, only where that was said; what is wrong replaces nothing.
    java = site.files / "java.p12"
    keytool(
        *(
            "-genkeypair",
            "-alias",
            "mx",
            "-keyalg",
            "RSA",
            "-keysize",
            "2048",
            "-dname",
            "CN=mx9.example.com",
        ),
        *("-ext", "SAN=dns:mx9.example.com", "-storetype", "PKCS12", "-keystore", java),
        *("-storepass", PASSPHRASE),
    )
    before = site.manifests
    assert "--replace" in letterlock("certificate", "import", "brought", java, *arguments).error
    assert site.manifests == before
    well("certificate", "import", "brought", java, "--replace", *arguments)
    fingerprint = site.run.status("Certificate", "brought")["fingerprint"]
    text = (site.run.folder / "listener.yaml").read_text()
    (site.run.folder / "listener.yaml").write_text(text.replace("mx7.example.com", "brought"))
    until(lambda: site.serves(fingerprint), what="the certificate of Java's file", seconds=60)

    # And out again, for both.
    exported = site.files / "exported.p12"
    well("certificate", "export", "brought", exported, *arguments)
    listed = keytool("-list", "-v", "-keystore", exported, "-storetype", "PKCS12", "-storepass", PASSPHRASE)
    assert "CN=mx9.example.com" in listed
    opened = openssl("pkcs12", "-in", exported, "-passin", f"pass:{PASSPHRASE}", "-nodes")
    assert b"PRIVATE KEY" in opened


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        ("20200101000000Z", "20200201000000Z", "Expired"),
        ("20990101000000Z", "20990201000000Z", "NotYetValid"),
    ],
)
def test_a_file_for_another_time_in_a_manifest_replaces_nothing_either(
    site: Site, start: str, end: str, reason: str
):
    name = f"by-hand-{reason.lower()}"
    key, certificate = pair(site.files, "mx6.example.com")
    good = site.pkcs12("good.p12", "-inkey", key, "-in", certificate)
    well("certificate", "import", name, good, "--passphrase-file", site.passphrase, *site.where)
    before = site.run.status("Certificate", name)["fingerprint"]
    names = ("-addext", "subjectAltName=DNS:mx6.example.com")
    request = openssl("req", "-new", "-key", key, "-subj", "/CN=mx6.example.com", *names)
    signed = site.file("other.pem", site.ca.sign(request, "-startdate", start, "-enddate", end))
    other = site.pkcs12("other.p12", "-inkey", key, "-in", signed)
    manifest = site.run.folder / f"secret-{name}-pkcs12.yaml"
    loaded = yaml.safe_load(manifest.read_text())
    loaded["data"]["certificate.p12"] = base64.b64encode(other.read_bytes()).decode()
    site.put(manifest.name, yaml.safe_dump(loaded))
    until(
        lambda: site.run.condition("Certificate", name, "Ready").get("reason") == reason,
        what=f"Ready {reason}",
        seconds=60,
    )
    assert "stays in use" in site.run.condition("Certificate", name, "Ready")["message"]
    assert site.run.status("Certificate", name)["fingerprint"] == before


@pytest.mark.parametrize(
    ("case", "reason", "says"),
    [
        ("wrong passphrase", "WrongPassphrase", "does not open it"),
        ("no passphrase", "WrongPassphrase", "--passphrase-file"),
        ("no key", "NoPrivateKey", "letterlock calist import mx "),
        ("several keys", "SeveralKeys", "several private keys"),
        ("expired", "Expired", "2020-02-01"),
        ("of the future", "NotYetValid", "valid from 2099"),
        ("no names", "NotClusterCapable", "no subject alternative name"),
        ("too large", "TooLarge", "more than members can mount"),
        ("PEM", "InvalidPKCS12", "it is PEM"),
        ("something else", "InvalidPKCS12", "not a PKCS#12 file"),
    ],
)
def test_each_wrong_file_has_its_reason_and_changes_nothing(site: Site, case: str, reason: str, says: str):
    key, certificate = pair(site.files, "mx8.example.com")
    passphrase = site.passphrase
    file = site.files / "wrong.p12"
    match case:
        case "wrong passphrase" | "no passphrase":
            file = site.pkcs12("wrong.p12", "-inkey", key, "-in", certificate)
            passphrase = site.file("wrong", "guess")
        case "no key":
            file = site.pkcs12("wrong.p12", "-nokeys", "-in", certificate)
        case "several keys":
            file.unlink(missing_ok=True)
            for alias in ("one", "two"):
                keytool(
                    *("-genkeypair", "-alias", alias, "-keyalg", "EC", "-dname", f"CN={alias}.example"),
                    *("-storetype", "PKCS12", "-keystore", file, "-storepass", PASSPHRASE),
                )
        case "too large":
            comment = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x" * (520 << 10))
            made = Issued.make("mx8.example.com", names=["mx8.example.com"], more=[comment], now=NOW)
            large = site.file("large.pem", made.key_pem + made.pem)
            file = site.pkcs12("wrong.p12", "-in", large)
        case "expired" | "of the future":
            dates = (
                ("20200101000000Z", "20200201000000Z")
                if case == "expired"
                else ("20990101000000Z", "20990201000000Z")
            )
            request = openssl(
                "req",
                "-new",
                "-key",
                key,
                "-subj",
                "/CN=a.example",
                "-addext",
                "subjectAltName=DNS:a.example",
            )
            signed = site.file(
                "dated.pem", site.ca.sign(request, "-startdate", dates[0], "-enddate", dates[1])
            )
            file = site.pkcs12("wrong.p12", "-inkey", key, "-in", signed)
        case "no names":
            signed = site.file(
                "nameless.pem", site.ca.sign(openssl("req", "-new", "-key", key, "-subj", "/CN=a"))
            )
            file = site.pkcs12("wrong.p12", "-inkey", key, "-in", signed)
        case "PEM":
            file.write_bytes(key.read_bytes())
        case _:
            file.write_bytes(b"GIF89a")
    before = site.manifests
    given = () if case == "no passphrase" else ("--passphrase-file", passphrase)
    error = letterlock("certificate", "import", "mx", file, "--replace", *given, *site.where).error
    assert error.startswith(f"{reason}: ")
    assert says in error
    assert site.manifests == before


def test_a_list_goes_out_and_comes_back_the_same(site: Site):
    _, own = pair(site.files, "own.example")
    _, other = pair(site.files, "other.example", "-addext", "basicConstraints=critical,CA:FALSE")
    leaf = site.ca.sign(_request(site))
    past = site.file(
        "past.pem",
        site.ca.sign(
            _request(site),
            "-startdate",
            "20200101000000Z",
            "-enddate",
            "20200201000000Z",
            "-extensions",
            "authority",
        ),
    )
    rootless = intermediate().pem.encode()
    parts = (site.ca.root.read_bytes(), site.ca.intermediate.read_bytes(), other.read_bytes())
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    source = site.file("cas.pem", b"".join((*parts, parts[0], leaf, past.read_bytes(), rootless, broken)))
    done = well("calist", "import", "partners", source, "--scope", "referenced", *site.where)
    assert "3 certificates that count, 1 of them for itself only" in done.stdout
    for reason in (
        "duplicate",
        "not a CA",
        "expired on 2020-02-01",
        "root is missing",
        "is not a certificate",
    ):
        assert any(reason in line for line in done.stdout.splitlines() if line.startswith("left out: "))
    assert done.stdout.count("left out: ") == 5
    first = site.files / "first.txt"
    well("calist", "export", "partners", first, *site.where)
    assert "# Subject: CN=Tests Root" in first.read_text()
    assert openssl("storeutl", "-noout", "-certs", first).count(b"Certificate") == 3
    well("calist", "import", "copy", first, *site.where)
    second = well("calist", "export", "copy", *site.where).stdout
    assert _blocks(second) == _blocks(first.read_text())
    assert "warning: ExpiringSoon: CAs that end within 30 days" in done.stderr
    until(lambda: site.run.status("CAList", "copy").get("count") == 3, what="the list in force", seconds=60)
    ending = site.run.condition("CAList", "copy", "ExpiringSoon")
    assert ending["message"].startswith("CAs that end within 30 days: ")

    # Nothing usable: the earlier list stays. Something else: said what goes and what comes.
    before = site.manifests
    refused = letterlock("calist", "import", "partners", site.file("leaf.pem", leaf), *site.where)
    assert refused.error.startswith("Empty: ")
    assert "not a CA" in refused.stdout
    assert site.manifests == before
    again = well("calist", "import", "partners", own, *site.where)
    assert "in place of the earlier list: 1 new, 3 gone" in again.stderr
    spec = yaml.safe_load((site.run.folder / "calist-partners.yaml").read_text())["spec"]
    assert spec["scope"] == "Referenced", "what was not said stays"
    assert "comes with the product" in letterlock("calist", "import", "system", own, *site.where).error


def test_the_system_list_goes_out_and_comes_back_by_config_map(site: Site):
    system = site.files / "system.txt"
    well("calist", "export", "system", system, *site.where)
    count = site.run.status("CAList", "system")["count"]
    assert len(_blocks(system.read_text())) == count
    text = system.read_text()
    well("calist", "import", "ours", system, *site.where)
    assert "ConfigMap/ours-ca-list" not in (site.run.folder / "calist-ours.yaml").read_text()
    until(
        lambda: site.run.status("CAList", "ours").get("count") == count, what="the list in force", seconds=60
    )
    assert _blocks(well("calist", "export", "ours", *site.where).stdout) == _blocks(text)


def test_a_pkcs12_file_without_key_is_a_list(site: Site):
    file = site.pkcs12("roots.p12", "-nokeys", "-in", site.ca.root)
    done = well("calist", "import", "roots", file, "--passphrase-file", site.passphrase, *site.where)
    assert "1 certificate that counts" in done.stdout
    assert "--passphrase-file" in letterlock("calist", "import", "roots", file, *site.where).error


def test_of_much_that_is_wrong_the_first_is_named(site: Site):
    file = site.file("wrong.txt", "-----BEGIN CERTIFICATE-----\n" * 1000)
    done = letterlock("calist", "import", "wrong", file, *site.where)
    assert done.error.startswith("Empty: ")
    assert "left out: block 1 is not a certificate: its END line is missing" in done.stdout
    assert done.stdout.splitlines()[-1] == "left out: 950 more"


def _blocks(text: str) -> set[str]:
    return {block.partition("-----END")[0].strip() for block in text.split("-----BEGIN CERTIFICATE-----")[1:]}
