"""CA lists on a real API server, with a real member and a real Postfix that has to be trusted (A1 to A5).

On the place that the tests of this folder share. Its gateway tries what waits again after an hour only: whatever comes
sooner was made due by the change.
"""

import json
import smtplib
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.harness import letters
from tests.harness.certificates import Authority
from tests.harness.issued import Issued
from tests.harness.places import Place
from tests.harness.postfix import Postfix
from tests.harness.quickstart import holds, resource
from tests.harness.waiting import until

LISTS = "calists.letterlock.dev"
PORT = 2610
DOMAINS = ("global.example", "referenced.example", "narrow.example", "public.example", "pinned.example")


@dataclass
class Mail:
    """Mail through the member to a Postfix behind it."""

    place: Place
    mailbox: Postfix

    def control(self, name: str, domain: str, *lists: str) -> str:
        """A destination that insists on verified TLS; gives its name for kubectl, once it is in force."""
        tls = {
            "mode": "RequiredVerify",
            **({"caListRefs": [{"name": one} for one in lists]} if lists else {}),
        }
        route = {"host": "127.0.0.1", "port": self.mailbox.port}
        self.place.kubectl.apply(
            resource("DestinationControl", name, domains=[domain], tls=tls, routes=[route])
        )
        return self.in_force(f"destinationcontrols.letterlock.dev/{name}")

    def in_force(self, what: str) -> str:
        """Wait until members run it as it is written now; gives it back."""

        def programmed() -> bool:
            item = self.place.kubectl.json("get", what)
            status: dict[str, Any] = item.get("status") or {}
            return any(
                one["type"] == "Programmed"
                and one["status"] == "True"
                and one["observedGeneration"] == item["metadata"]["generation"]
                for one in status.get("conditions", [])
            )

        until(programmed, seconds=90, what=f"{what} Programmed")
        return what

    def send(self, domain: str) -> bytes:
        message = letters.letter(to=f"someone@{domain}")
        with smtplib.SMTP(self.place.address, PORT, local_hostname="client.example", timeout=60) as client:
            client.sendmail("sender@client.example", [f"someone@{domain}"], message.replace(b"\n", b"\r\n"))
        return message

    def arrives(self, message: bytes) -> None:
        until(
            lambda: letters.arrived(message, self.mailbox.messages()),
            seconds=90,
            what="the message in the mailbox",
        )

    def held(self, domain: str) -> bytes:
        """Send a message that is not delivered, because the receiver is not trusted."""

        def delayed() -> int:
            log = self.place.kubelet.pod("default-0").log.read_text()
            return sum("Delayed:" in line and f"asked for {domain}" in line for line in log.splitlines())

        before = delayed()
        message = self.send(domain)
        until(lambda: delayed() > before, seconds=90, what=f"a message to {domain} that waits")
        assert letters.arrived(message, self.mailbox.messages()) is None
        return message

    def switch(self, name: str, *, on: bool) -> None:
        """Switch a list on or off, and wait until that is in force."""
        patch = json.dumps({"spec": {"enabled": on}})
        self.place.kubectl("patch", f"{LISTS}/{name}", "--type=merge", f"--patch={patch}")
        self.in_force(f"{LISTS}/{name}")


@pytest.fixture(scope="module")
def mail(place: Place) -> Generator[Mail]:
    with Postfix.receiving(domains=DOMAINS, certificate=Authority().issue("nobody.example")) as mailbox:
        recipients = [{"match": list(DOMAINS), "action": "Accept"}]
        place.kubectl.apply(resource("Listener", "lists", type="Public", port=PORT, recipients=recipients))
        place.wait("listeners.letterlock.dev/lists", "Programmed", "True")
        yield Mail(place, mailbox)


def test_custom_lists_count_everywhere_or_where_they_are_named_and_release_what_waited(mail: Mail) -> None:
    place, ca = mail.place, Authority()
    mail.mailbox.use_certificate(ca.issue(*DOMAINS))
    pem = ca.pem.decode()
    place.kubectl.apply(
        resource("CAList", "everywhere", certificates=pem, enabled=False),
        resource("CAList", "named", certificates=pem, scope="Referenced"),
    )
    anywhere = mail.control("anywhere", "global.example")
    mail.control("narrow", "narrow.example", "system")
    mail.control("named", "referenced.example", "named")
    # Named where it counts: trusted there, and nowhere else.
    mail.arrives(mail.send("referenced.example"))
    first = mail.held("global.example")
    place.wait(anywhere, "Delivering", "False", "NotTrusted", "global.example")
    # Switched on: what was held for want of it goes at once.
    mail.switch("everywhere", on=True)
    mail.arrives(first)
    place.wait(anywhere, "Delivering", "True", "Delivered")
    # Where only the system list counts, a custom one vouches for nobody; where both are named, both do.
    second = mail.held("narrow.example")
    mail.control("narrow", "narrow.example", "system", "named")
    mail.arrives(second)
    # Switched off again: the next connection does not trust any more.
    mail.switch("everywhere", on=False)
    assert place.status(f"{LISTS}/everywhere")["count"] == 1, "it can still be looked at"
    third = mail.held("global.example")
    mail.switch("everywhere", on=True)
    mail.arrives(third)


def test_the_system_list_is_looked_at_switched_off_and_on_and_comes_back_as_it_was(mail: Mail) -> None:
    place, system = mail.place, f"{LISTS}/system"
    mail.mailbox.use_certificate(place.public_ca.issue("public.example"))
    mail.control("public", "public.example")

    def deleted() -> dict[str, Any]:
        """What comes in its place."""
        uid = place.kubectl.json("get", system)["metadata"]["uid"]
        place.kubectl("delete", system)

        def back() -> dict[str, Any] | None:
            done = place.kubectl.run("get", system, "--output", "json")
            item: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
            return item if item and item["metadata"]["uid"] != uid else None

        item = until(back, seconds=60, what="the system list again")
        mail.in_force(system)
        return item

    assert place.status(system)["count"] > 100
    mail.arrives(mail.send("public.example"))
    assert deleted()["spec"]["enabled"] is True
    mail.arrives(mail.send("public.example"))
    mail.switch("system", on=False)
    place.wait(system, "Ready", "True", "Disabled")
    waiting = mail.held("public.example")
    again = deleted()
    assert (again["spec"]["type"], again["spec"]["enabled"]) == ("System", False)
    assert letters.arrived(waiting, mail.mailbox.messages()) is None
    mail.switch("system", on=True)
    mail.arrives(waiting)


NOW = datetime.now(UTC).replace(microsecond=0)


def _root(name: str, days: tuple[int, int] = (-10, 3000)) -> Issued:
    return Issued.make(name, ca=True, signs=True, days=days, now=NOW)


def test_imports_are_checked_one_by_one_kept_where_they_are_bad_and_exported_the_same(mail: Mail) -> None:
    place, kubectl = mail.place, mail.place.kubectl
    good, expired, elsewhere = _root("Good Root"), _root("Expired Root", (-10, -1)), _root("Elsewhere")
    own = Issued.make("pinned.example", names=["pinned.example"], days=(-1, 300), now=NOW)
    middle = Issued.make("Intermediate of elsewhere", elsewhere, ca=True, signs=True, days=(-1, 300), now=NOW)
    leaf = Issued.make("leaf.example", good, names=["leaf.example"], days=(-1, 300), now=NOW)
    rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    ending = [_root(f"Ends in {days} days", (-10, days)) for days in (80, 20, 1)]
    parts = [good, expired, good, leaf, middle, own, *ending]
    text = "Partner CAs\n===========\n" + "".join(one.text for one in parts) + rubbish

    def source(content: str) -> None:
        kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "cas"},
                "data": {"ca.pem": content},
            }
        )

    def trusted() -> dict[str, Any]:
        data = kubectl.json("get", "configmap", "default-snapshot")["data"]["snapshot.json"]
        return {name: one["file"] for name, one in json.loads(data)["trust"].items()}

    def from_map(name: str, key: str) -> dict[str, Any]:
        return {"certificatesFrom": {"configMapKeyRef": {"name": name, "key": key}}, "scope": "Referenced"}

    source(text)
    export = {"configMapName": "checked-export", "fileName": "checked.txt"}
    kubectl.apply(resource("CAList", "checked", **from_map("cas", "ca.pem"), export=export))
    mail.in_force(f"{LISTS}/checked")
    status = place.status(f"{LISTS}/checked")
    assert (status["count"], status["pinned"]) == (5, 1)
    reasons = [one["reason"] for one in status["rejected"]]
    for reason, says in zip(
        reasons,
        (
            "expired on ",
            "duplicate",
            "not a CA",
            "an intermediate whose root is missing",
            "block 10 is not a certificate",
        ),
        strict=True,
    ):
        assert reason.startswith(says), reasons
    assert status["rejected"][3]["subject"] == "CN=Intermediate of elsewhere"
    # Those that end are said ahead, each by its step, in the condition and as an Event.
    said = place.wait(f"{LISTS}/checked", "ExpiringSoon", "True")
    for step in (
        "within 1 day: CN=Ends in 1 days",
        "within 30 days: CN=Ends in 20",
        "within 90 days: CN=Ends in 80",
    ):
        assert step in said
    events = kubectl.json("get", "events", "--field-selector=reason=ExpiringSoon")["items"]
    assert [one["type"] for one in events if one["involvedObject"]["name"] == "checked"] == ["Warning"]
    # The export reads well, and imported it is the same set.
    exported = kubectl.json("get", "configmap", "checked-export")["data"]["checked.txt"]
    assert exported.count("# Subject: CN=") == 5
    assert "trusted for itself only" in exported
    kubectl.apply(resource("CAList", "again", **from_map("checked-export", "checked.txt")))
    mail.in_force(f"{LISTS}/again")
    assert trusted()["again"] == trusted()["checked"]
    assert "rejected" not in place.status(f"{LISTS}/again") or not place.status(f"{LISTS}/again")["rejected"]
    # The system list's too, large as it is.
    patch = json.dumps({"spec": {"export": {"configMapName": "roots", "fileName": "roots.txt"}}})
    kubectl("patch", f"{LISTS}/system", "--type=merge", f"--patch={patch}")
    kubectl.apply(resource("CAList", "copy", **from_map("roots", "roots.txt")))
    until(lambda: holds(kubectl, f"{LISTS}/copy", "Ready"), seconds=60, what="the copy of the system list")
    mail.in_force(f"{LISTS}/copy")
    assert trusted()["copy"] == trusted()["system"]
    # A self-signed certificate that is no CA is trusted as it is.
    mail.mailbox.use_certificate(own.key_pem + own.pem)
    mail.control("pinned", "pinned.example", "checked")
    mail.arrives(mail.send("pinned.example"))
    # Nothing usable: refused, and the earlier one stays, on the wire as well.
    before = trusted()["checked"]
    source(leaf.text)
    place.wait(
        f"{LISTS}/checked", "Ready", "False", "Empty", "the earlier list (5 certificates) stays in force"
    )
    assert trusted()["checked"] == before
    mail.arrives(mail.send("pinned.example"))
    source(good.text)
    place.wait(f"{LISTS}/checked", "Ready", "True")
    until(lambda: place.status(f"{LISTS}/checked")["count"] == 1, what="the new text")
