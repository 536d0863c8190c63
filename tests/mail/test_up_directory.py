"""Recipients from a directory, as a user sets it up: manifests, `letterlock up`, a slapd that demands certificates."""

import json
import stat
from pathlib import Path
from typing import Any

import yaml

from tests.cli.upped import Upped
from tests.harness import ports, waiting
from tests.harness.certificates import Authority
from tests.harness.quickstart import resource
from tests.harness.slapd import BASE, BIND, PASSWORD, Slapd
from tests.harness.swaks import swaks


def manifests(port: int, directory: int, authority: Authority) -> list[dict[str, Any]]:
    pem = authority.issue("gw.here.example", common_name="gateway").decode()
    key, _, chain = pem.partition("-----BEGIN CERTIFICATE-----")
    secret = {"apiVersion": "v1", "kind": "Secret"}
    return [
        resource(
            "MailGateway",
            "default",
            ldap=[
                {
                    "name": "people",
                    "servers": [f"127.0.0.1:{directory}"],
                    "baseDN": BASE,
                    "bindDN": BIND,
                    "bindPasswordSecretKeyRef": {"name": "people", "key": "password"},
                    "certificateRef": {"name": "gw"},
                }
            ],
        ),
        {**secret, "metadata": {"name": "people"}, "stringData": {"password": PASSWORD}},
        {
            **secret,
            "metadata": {"name": "gw-tls"},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.key": key, "tls.crt": "-----BEGIN CERTIFICATE-----" + chain},
        },
        resource("Certificate", "gw", secretRef={"name": "gw-tls"}),
        resource("CAList", "ours", type="Custom", certificates=authority.pem.decode()),
        resource(
            "Listener",
            "public",
            address="127.0.0.1",
            port=port,
            recipients=[{"match": ["here.example"]}],
            acceptQuery={"ldap": "people", "filter": "(mail={a})"},
        ),
    ]


def put(folder: Path, *items: dict[str, Any]) -> None:
    scratch = folder.parent / "scratch.yaml"
    scratch.write_text(yaml.safe_dump_all(items))
    scratch.replace(folder / "all.yaml")


def test_a_directory_that_demands_certificates(tmp_path: Path) -> None:
    authority = Authority()
    folder = tmp_path / "folder"
    folder.mkdir()
    with Slapd(authority.issue("127.0.0.1"), authority.pem, clients="demand") as slapd:
        port = ports.free_port()
        items = manifests(port, slapd.tls_port, authority)
        put(folder, *items)
        up = Upped(folder, tmp_path / "state", port, 0)
        up.start()
        try:
            for kind, name in (("MailGateway", "default"), ("Listener", "public"), ("Certificate", "gw")):
                waiting.until(
                    lambda kind=kind, name=name: (
                        up.condition(kind, name, "Programmed").get("status") == "True"
                    ),
                    what=f"{kind}/{name} Programmed",
                    seconds=60,
                )
            assert up.status("Certificate", "gw")["usedBy"] == ["MailGateway/default"]

            def answer(user: str) -> str:
                seen = swaks(
                    port,
                    to=f"{user}@here.example",
                    data=b"Subject: x\n\nx\n",
                    directory=tmp_path,
                    tls=False,
                )
                return seen.text

            assert "250 2.0.0 Ok: queued" in answer("known")
            assert "550 5.1.1" in answer("stranger")
            assert f'BIND dn="{BIND}"' in slapd.log
            assert "tls_ssf=" in slapd.log
            _password_is_kept_among_keys_alone(tmp_path)
            # Without our certificate the directory does not talk to us: nobody is let in, and nobody refused for good.
            bare = json.loads(json.dumps(items))
            del bare[0]["spec"]["ldap"][0]["certificateRef"]
            put(folder, *bare)
            waiting.until(lambda: "451 4.4.3" in answer("known"), seconds=60, what="no answer without ours")
            assert "451 4.4.3" in answer("nobody")
            put(folder, *items)
            waiting.until(lambda: "250 2.0.0 Ok: queued" in answer("known"), seconds=60)
            # A password that is gone: what was good keeps running, and it is said.
            put(folder, *[one for one in items if one["metadata"]["name"] != "people"])
            waiting.until(
                lambda: up.condition("Listener", "public", "Accepted").get("reason") == "SecretNotFound",
                seconds=60,
            )
            assert "250 2.0.0 Ok: queued" in answer("known")
            assert "550 5.1.1" in answer("another")
        finally:
            assert up.stop() == 0
        assert PASSWORD not in up.stdout + up.stderr


def _password_is_kept_among_keys_alone(directory: Path) -> None:
    """In files that nobody else may read, and neither in the snapshot nor in a log."""
    holding = [
        path
        for path in (directory / "state").rglob("*")
        if path.is_file() and PASSWORD.encode() in path.read_bytes()
    ]
    assert {path.name.partition("-")[0] for path in holding} == {"auth", "all.yaml"}, holding
    for path in holding:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
