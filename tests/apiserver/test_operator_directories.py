"""Recipients from a directory on a real API server: a slapd that demands client certificates, and fails (L8, C10)."""

import base64
import json
from pathlib import Path
from typing import Any, Final

from tests.apiserver.test_operator_members import SMTP_PORT, programmed
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.certificates import Authority
from tests.harness.kubelet import Kubelet
from tests.harness.operators import operator
from tests.harness.quickstart import condition, resource
from tests.harness.slapd import BASE, BIND, PASSWORD, Slapd
from tests.harness.swaks import swaks
from tests.harness.waiting import until

LISTENER: Final = "listeners.letterlock.dev/public"
NAMES: Final = ("gw.here.example",)
YES, NO, LATER = "250 2.1.5", "550 5.1.1", "451 4.4.3"


def tls_data(pem: bytes) -> dict[str, str]:
    """Key and chain as the data of a `kubernetes.io/tls` Secret."""
    key, marker, chain = pem.partition(b"-----BEGIN CERTIFICATE-----")
    return {
        name: base64.b64encode(text).decode()
        for name, text in (("tls.key", key), ("tls.crt", marker + chain))
    }


def manifests(port: int, ours: Authority, pem: bytes) -> tuple[dict[str, Any], ...]:
    ldap = {
        "name": "people",
        "servers": [f"127.0.0.1:{port}"],
        "baseDN": BASE,
        "bindDN": BIND,
        "bindPasswordSecretKeyRef": {"name": "people", "key": "password"},
        "certificateRef": {"name": "gw"},
    }
    secret = {"apiVersion": "v1", "kind": "Secret"}
    return (
        resource("MailGateway", "default", replicas=1, hostname="mx.here.example", ldap=[ldap]),
        {**secret, "metadata": {"name": "people"}, "stringData": {"password": PASSWORD}},
        {**secret, "metadata": {"name": "gw-tls"}, "type": "kubernetes.io/tls", "data": tls_data(pem)},
        resource("Certificate", "gw", secretRef={"name": "gw-tls"}),
        resource("CAList", "ours", type="Custom", certificates=ours.pem.decode()),
        resource(
            "Listener",
            "public",
            port=25,
            recipients=[{"match": ["here.example"]}],
            acceptQuery={"ldap": "people"},
        ),
    )


def test_recipients_of_a_directory_that_demands_certificates(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    """Known, unknown, and no word from the directory: each its own reply, and the last is never a yes."""
    ours, later = Authority(), Authority()
    people = ("known", "second", "third", "fourth")  # what was asked once may be remembered
    with (
        Slapd(ours.issue("127.0.0.1"), ours.pem, people=people, clients="demand") as slapd,
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet,
    ):
        kubectl.apply(*manifests(slapd.tls_port, ours, ours.issue(*NAMES, common_name="gateway")))
        programmed(kubectl, LISTENER, "mailgateways.letterlock.dev/default", "certificates.letterlock.dev/gw")
        address = kubelet.address("default-0")

        def answer(user: str) -> str:
            to = f"{user}@here.example"
            return swaks(SMTP_PORT, address=address, to=to, tls=False, options=["--quit-after", "RCPT"]).text

        def becomes(user: str, words: str) -> None:
            until(lambda: words in answer(user), seconds=90, what=f"{words} for {user}")

        assert YES in answer("known")
        assert NO in answer("stranger")
        assert f'BIND dn="{BIND}"' in slapd.log
        # It is down; then up again, and takes clients of another CA only, of which our new certificate is.
        slapd.stop()
        becomes("second", LATER)
        assert LATER in answer("nobody")
        slapd.use_clients(later.pem)
        slapd.start()
        until(lambda: LATER in answer("second") and "TLS negotiation failure" in slapd.log, seconds=60)
        fresh = {"data": tls_data(later.issue(*NAMES, common_name="gateway"))}
        kubectl("patch", "secret/gw-tls", "--type=merge", f"--patch={json.dumps(fresh)}")
        becomes("second", YES)
        assert NO in answer("nobody")
        # Its own CA counts no more: switched off, then gone.
        kubectl("patch", "calists.letterlock.dev/ours", "--type=merge", '--patch={"spec":{"enabled":false}}')
        becomes("third", LATER)
        assert LATER in answer("nobody-else")
        programmed(kubectl, LISTENER)
        kubectl("delete", "calists.letterlock.dev/ours")
        assert LATER in answer("third")
        kubectl.apply(resource("CAList", "ours", type="Custom", certificates=ours.pem.decode()))
        becomes("third", YES)
        # Without the Secret of the password the resource says so, and what was good keeps running.
        kubectl("delete", "secret/people")
        until(
            lambda: condition(kubectl, LISTENER, "Accepted").get("reason") == "SecretNotFound",
            seconds=60,
            what="the missing Secret named",
        )
        assert YES in answer("fourth")
        log = kubelet.pod("default-0").log.read_text()
        assert "LDAP people cannot be asked: 127.0.0.1:" in log
        assert PASSWORD not in log + (tmp_path / "operator.log").read_text()
        assert PASSWORD not in json.dumps(kubectl.json("get", "configmaps"))
