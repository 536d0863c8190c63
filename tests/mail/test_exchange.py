"""Two Letterlocks that hold each other's self-signed certificate, and nothing else of each other (C4).

Both are `letterlock up` with folders and processes of their own. Each insists on the other's certificate in both
directions: as a server (RequiredVerify), and as a client (a listener that takes client certificates of that name
only). Behind both is one real Postfix with their mailboxes.
"""

import contextlib
import json
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from letterlock_cli.up.state import State
from letterlock_operator import issuing
from letterlock_operator.decide import chains
from letterlock_operator.plan import Issue
from letterlock_operator.world import Keep
from tests.harness import tls_programs, waiting
from tests.harness.certificates import leaf_der
from tests.harness.ports import free_port
from tests.harness.postfix import Postfix
from tests.harness.quickstart import resource
from tests.mail import clients

COMMAND = (sys.executable, "-W", "error", "-m", "letterlock_cli")
SECRET = "letterlock-cert-own"
DAYS = 90


@dataclass
class Side:
    """One of the two."""

    domain: str
    folder: Path
    state: Path
    inbound: int
    """Port for the other one."""
    submission: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.state.parent / f"{self.domain}.out").open("ab") as output:
            self.process = subprocess.Popen(
                (*COMMAND, "up", str(self.folder), "--state", str(self.state), "--workers", "1"),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self) -> None:
        if self.process is not None:
            process, self.process = self.process, None
            process.terminate()
            assert process.wait(60) == 0, (self.state.parent / f"{self.domain}.out").read_text()

    def put(self, file: str, *manifests: dict[str, Any]) -> None:
        scratch = self.folder.parent / f"{self.domain}.scratch"
        scratch.write_text(yaml.safe_dump_all(manifests))
        scratch.replace(self.folder / file)

    def own(self, activate: str = "") -> None:
        """Its certificate. `activate`: the next one, by fingerprint."""
        renewal = {"mode": "Prepare", **({"activate": activate} if activate else {})}
        names = [self.domain, f"mx.{self.domain}"]
        spec = {"level": "Cluster", "dnsNames": names, "days": DAYS, "renewal": renewal}
        self.put("certificate.yaml", resource("Certificate", "own", **spec))

    def trust(self, *certificates: str) -> None:
        """Import these certificates of the other one, to count for its domain only."""
        self.letterlock("calist", "import", "peer", "-", "--scope", "Referenced", stdin="".join(certificates))

    def status(self, kind: str, name: str) -> dict[str, Any]:
        path = self.state / "status" / kind / f"{name}.yaml"
        return yaml.safe_load(path.read_text()).get("status", {}) if path.is_file() else {}

    def holds(self, kind: str, name: str, condition: str) -> bool:
        found = [one for one in self.status(kind, name).get("conditions", []) if one["type"] == condition]
        return bool(found) and found[0]["status"] == "True"

    def wait(self, kind: str, name: str, condition: str = "Programmed") -> None:
        waiting.until(
            lambda: self.holds(kind, name, condition),
            seconds=120,
            what=f"{self.domain}: {kind}/{name} {condition}",
        )

    def exported(self) -> str:
        """Its certificate as the command line gives it to others: no key in it."""
        shown = self.letterlock("certificate", "show", "own")
        assert "PRIVATE" not in shown
        return shown

    def letterlock(self, *arguments: str, stdin: str = "") -> str:
        """What a command on its folder prints."""
        done = subprocess.run(
            (*COMMAND, *arguments, "--dir", str(self.folder), "--state", str(self.state)),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def secret(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.state / "secrets" / SECRET).iterdir()}

    def log(self) -> list[dict[str, Any]]:
        text = (self.state / "log" / "default-0.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def said(self, *words: str) -> list[str]:
        """Messages of its log with any of these words."""
        return [
            one["message"] for one in self.log() if any(word in str(one.get("message", "")) for word in words)
        ]


def age(side: Side, days: int) -> str:
    """Make its certificate one that was made so many days ago, as if it had run since; it must be stopped.

    Gives the fingerprint.
    """
    data = side.secret()
    present = Keep(SECRET, data)
    made = chains.read(data["tls.key"], data["tls.crt"])
    algorithm, size = made.key
    order = Issue(
        secret=SECRET,
        owner="Certificate/own",
        subject={},
        dns_names=tuple(made.names),
        days=DAYS,
        algorithm="RSA" if algorithm == "RSA" else "ECDSA",
        size=size,
        keep_key=True,
        inputs=data["inputs"].decode(),
    )
    aged = issuing.issue(order, present, datetime.now(UTC) - timedelta(days=days))
    with State(side.state) as state:
        state.store_secret(SECRET, "Certificate/own", aged)
    return sha256(leaf_der(aged["tls.crt"])).hexdigest()


def _manifests(me: Side, other: Side, mailbox: int) -> list[dict[str, Any]]:
    peer = {"caListRefs": [{"name": "peer"}]}
    only_peer = {
        "mode": "Required",
        "clientCertificate": "Required",
        "clientCertificates": {**peer, "names": [other.domain]},
    }
    own = [{"name": "own"}]
    return [
        resource(
            "MailGateway",
            "default",
            hostname=f"mx.{me.domain}",
            delivery={"certificateRef": {"name": "own"}, "addressFamily": "IPv4"},
        ),
        resource(
            "Listener",
            "from-peer",
            type="Public",
            address="127.0.0.1",
            port=me.inbound,
            certificateRefs=own,
            defaultPolicy={"tls": only_peer},
            recipients=[{"match": [me.domain], "action": "Accept"}],
        ),
        resource(
            "Listener",
            "submission",
            type="Private",
            address="127.0.0.1",
            port=me.submission,
            certificateRefs=own,
            mailFlowPolicies=[{"name": "relay", "behavior": "Relay", "tls": {"mode": "Preferred"}}],
            senderGroups=[{"name": "here", "senders": ["127.0.0.1"], "policy": "relay"}],
        ),
        resource(
            "DestinationControl",
            "to-peer",
            domains=[other.domain],
            tls={"mode": "RequiredVerify", **peer},
            routes=[{"host": "127.0.0.1", "port": other.inbound}],
        ),
        resource(
            "DestinationControl",
            "everything-else",
            domains=["*"],
            tls={"mode": "No"},
            routes=[{"host": "127.0.0.1", "port": mailbox}],
        ),
    ]


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side, Postfix]]:
    with contextlib.ExitStack() as ends:
        mailbox = ends.enter_context(
            Postfix.receiving(domains=("one.example", "two.example", "client.example"))
        )
        one, two = (
            Side(f"{name}.example", tmp_path / name, tmp_path / f"{name}-state", free_port(), free_port())
            for name in ("one", "two")
        )
        for me, other in ((one, two), (two, one)):
            me.folder.mkdir()
            me.own()
            me.put("gateway.yaml", *_manifests(me, other, mailbox.port))
        yield one, two, mailbox
        for side in (one, two):
            side.stop()


def served(side: Side) -> str:
    """Fingerprint of what it shows on the other one's listener (without a certificate of ours it says no more)."""
    shown = tls_programs.shown("127.0.0.1", side.inbound)
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    body = shown.partition(begin)[2].partition(end)[0]
    return sha256(leaf_der(f"{begin}{body}{end}\n".encode())).hexdigest() if body else ""


def test_peers_that_swapped_certificates_lose_and_delay_nothing_through_a_renewal(
    sides: tuple[Side, Side, Postfix],
) -> None:
    one, two, mailbox = sides
    for side in sides[:2]:
        side.start()
    for side in sides[:2]:
        side.wait("Certificate", "own")
    # 61 of 90 days are over for the first one: its renewal is due.
    one.stop()
    old = age(one, 61)
    one.start()
    waiting.until(
        lambda: one.status("Certificate", "own").get("fingerprint") == old, seconds=60, what="the aged one"
    )
    # Export here, import there, both ways.
    one.trust(two.exported())
    two.trust(one.exported())
    for side in sides[:2]:
        for kind, name in (("CAList", "peer"), ("Listener", "from-peer"), ("DestinationControl", "to-peer")):
            side.wait(kind, name)
    assert served(one) == old
    following = waiting.until(lambda: one.status("Certificate", "own").get("next"), what="status.next")
    with (
        clients.sending(one.submission, clients=2, to=f"someone@{two.domain}") as there,
        clients.sending(two.submission, clients=2, to=f"someone@{one.domain}") as back,
    ):

        def traffic(messages: int = 15) -> None:
            for record in (there, back):
                waiting.until(clients.after(record, messages), seconds=120, what="traffic")

        traffic()
        assert one.status("Certificate", "own")["fingerprint"] == old, "nothing changes unannounced"
        two.trust(one.exported(), following["certificate"])
        waiting.until(lambda: two.status("CAList", "peer").get("pinned") == 2, what="both certificates")
        two.wait("CAList", "peer")
        traffic()
        one.own(activate=following["fingerprint"])
        waiting.until(
            lambda: served(one) == following["fingerprint"], seconds=120, what="the next one served"
        )
        one.wait("Certificate", "own")
        traffic()
        # The old one is not needed any more.
        two.trust(following["certificate"])
        waiting.until(lambda: two.status("CAList", "peer").get("pinned") == 1, what="one certificate")
        two.wait("CAList", "peer")
        traffic()
    sent = [*there.acknowledged, *back.acknowledged]
    assert there.failures == back.failures == []
    waiting.until(
        lambda: len(mailbox.message_ids()) >= len(sent), seconds=180, what="every message in its mailbox"
    )
    assert mailbox.message_ids() == sorted(sent), "each of them once"
    for side, other in ((one, two), (two, one)):
        assert side.said("Delayed:", "Bounced:") == []
        assert [one for one in side.said("TLS failed") if one.startswith("DCID")] == []
        assert side.said(f"verified name {other.domain} (Recipient)")
        last = side.status("DestinationControl", "to-peer")["lastTLS"]
        assert (last["verified"], last["matchedName"]) == (True, other.domain)
        assert side.said("client certificate verified")
    with pytest.raises((OSError, smtplib.SMTPException)):
        stranger(one.inbound)


def stranger(port: int) -> None:
    """A session without a client certificate. Raises OSError, SMTPException where that is not enough."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="stranger.example", timeout=60) as client:
        client.starttls(context=clients.unverified())
        client.sendmail("someone@two.example", ["someone@one.example"], "From a stranger.\r\n")
