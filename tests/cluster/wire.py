"""What tests on a cluster see on the wire, and a destination that is dead until a test revives it."""

import json
import smtplib
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tests.harness import waiting
from tests.harness.installed import DESTINATION, LISTENER, Mail
from tests.harness.manifests import manifest
from tests.harness.postfix import Postfix
from tests.mail import clients

_CERTIFICATE = "certificates.letterlock.dev/mx"


def served(address: str, port: int = 25) -> str:
    """sha256 of the certificate that a listener shows."""
    with smtplib.SMTP(address, port, local_hostname="client.example", timeout=30) as client:
        client.starttls(context=clients.unverified())
        connected: Any = client.sock
        return sha256(connected.getpeercert(binary_form=True)).hexdigest()


@dataclass(frozen=True)
class Measured:
    """Seconds from the change's being accepted to the first session that shows it."""

    seconds: tuple[float, ...]

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        p50, p99 = (ordered[min(int(len(ordered) * part), len(ordered) - 1)] for part in (0.5, 0.99))
        return f"apply to wire over {len(ordered)} changes: p50 {p50:.2f} s, p99 {p99:.2f} s, max {ordered[-1]:.2f} s"


def changes(mail: Mail, count: int) -> Measured:
    """Change the listener's certificate so often, one change after the other is seen."""
    address = mail.address
    measured: list[float] = []
    for number in range(count):
        before = served(address)
        patch = json.dumps({"spec": {"subject": {"organization": f"Change {number} {time.time_ns()}"}}})
        mail.kubectl("patch", _CERTIFICATE, "--type=merge", f"--patch={patch}")
        began = time.monotonic()
        waiting.until(
            lambda before=before: served(address) != before,
            seconds=120,
            what="another certificate",
            every=0.02,
        )
        measured.append(time.monotonic() - began)
    mail.wait_condition(LISTENER, "Programmed")
    return Measured(tuple(measured))


def refused(record: clients.Record) -> list[str]:
    """Sessions that ended before their message had its 250.

    One that is told 421 after it loses nothing: its member is about to go.
    """
    return [one for one in record.failures if "before 250" in one]


@dataclass(frozen=True)
class Dead:
    """A destination that nobody answers for."""

    domain: str
    port: int
    address: str

    def receiving(self) -> Postfix:
        """Somebody who answers for it."""
        return Postfix.receiving(domains=(self.domain,), port=self.port, address=self.address)


def dead_destination(mail: Mail) -> Dead:
    """A domain that the gateway takes mail for, and whose next hop is not there."""
    dead = Dead("dead.example", mail.receiver_port + 1000, mail.cluster.address)
    patch = json.dumps(
        {"spec": {"recipients": [{"match": ["example.com", dead.domain], "action": "Accept"}]}}
    )
    mail.kubectl("patch", LISTENER, "--type=merge", f"--patch={patch}")
    route = {"host": dead.address, "port": dead.port}
    made = manifest(
        "DestinationControl",
        {"domains": [dead.domain], "tls": {"mode": "No"}, "routes": [route]},
        name="dead",
    )
    mail.kubectl.apply(made)
    mail.wait_condition("destinationcontrols.letterlock.dev/dead", "Programmed")
    mail.wait_condition(LISTENER, "Programmed")
    mail.wait_condition(DESTINATION, "Programmed")
    return dead
