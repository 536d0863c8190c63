"""A gateway's life on real pods: mail goes through, certificates rotate, members come and go."""

from pathlib import Path

from tests.cluster import wire
from tests.harness import installed, letters, waiting
from tests.harness.installed import DESTINATION, GATEWAY, Mail
from tests.harness.swaks import swaks
from tests.mail import clients


def test_mail_goes_through_a_pod_over_verified_tls(mail: Mail, tmp_path: Path) -> None:
    message = letters.letter(to="someone@example.com")
    with mail.receiving() as receiver:
        sent = swaks(25, address=mail.address, to="someone@example.com", data=message, directory=tmp_path)
        assert sent.accepted, sent.text
        found = waiting.until(
            lambda: letters.arrived(message, receiver.messages()), seconds=120, what="the message"
        )
    assert "TLSv1.3" in letters.added_headers(message, found)
    mail.wait_condition(DESTINATION, "Delivering")
    # It runs as nobody in particular, in a namespace that takes nothing else, and knows nothing of the API.
    (pod,) = mail.pods().values()
    assert pod["spec"]["automountServiceAccountToken"] is False
    gone = mail.kubectl.run("exec", "default-0", "--", "ls", "/var/run/secrets/kubernetes.io")
    assert "No such file" in gone.stderr
    written = mail.kubectl.run("exec", "default-0", "--", "touch", "/opt/letterlock/x")
    assert "Read-only file system" in written.stderr


def test_a_changed_certificate_is_soon_on_the_wire_and_restarts_nobody(mail: Mail) -> None:
    measured = wire.changes(mail, 5)
    print(measured)
    stateful_set = mail.kubectl.json("get", "statefulset", "default")
    assert stateful_set["metadata"]["generation"] == 1
    assert all(one["status"]["containerStatuses"][0]["restartCount"] == 0 for one in mail.pods().values())


def test_members_come_and_go_under_load_and_no_mail_is_lost(mail: Mail) -> None:
    dead = wire.dead_destination(mail)
    address = mail.address
    with mail.receiving() as receiver:
        with clients.sending(25, address=address, to="someone@example.com", clients=3) as record:
            waiting.until(clients.after(record, 10), seconds=120, what="traffic")
            mail.scale(3)
            waiting.until(lambda: mail.ready_members() == 3, seconds=240, what="three members")
            with clients.sending(25, address=address, to=f"someone@{dead.domain}", clients=3) as stuck:
                waiting.until(clients.after(stuck, 60), seconds=120, what="mail for a dead destination")
            mail.scale(1)
            mail.wait_condition(GATEWAY, "Draining")
            waiting.until(lambda: list(mail.pods()) == ["default-0"], seconds=300, what="one member")
            waiting.until(clients.after(record, 10), seconds=120, what="traffic")
        assert [*wire.refused(record), *wire.refused(stuck)] == []
        waiting.until(
            lambda: receiver.message_ids() == sorted(record.acknowledged),
            seconds=180,
            what="each message once",
        )
    with dead.receiving() as revived:
        waiting.until(
            lambda: revived.message_ids() == sorted(stuck.acknowledged), seconds=180, what="each message once"
        )
    mail.wait_condition(GATEWAY, "Ready")


def test_a_deleted_gateway_leaves_its_spool_volumes_and_nothing_else(mail: Mail) -> None:
    for file in sorted(installed.EXAMPLE.glob("*.yaml")):
        mail.kubectl("delete", "--wait=false", "--filename", str(file))
    installed.wait_nothing_left(mail.kubectl)
    claims = mail.kubectl.json("get", "persistentvolumeclaims")["items"]
    assert [one["metadata"]["name"] for one in claims] == ["spool-default-0"]
