"""What takes minutes on real pods: `make e2e` runs it after the core, `make test` does not."""

import json
import os
import signal
import time

from tests.cluster import wire
from tests.harness import installed, waiting
from tests.harness.cluster import Cluster
from tests.harness.installed import GATEWAY, LISTENER, OPERATOR, SYSTEM, Mail
from tests.mail import clients

CHANGES = int(os.environ.get("LETTERLOCK_CHANGES", "50"))
LEASE_SECONDS = 15


def test_five_hundred_changes_are_on_the_wire(mail: Mail) -> None:
    print(wire.changes(mail, CHANGES))
    assert mail.kubectl.json("get", "statefulset", "default")["metadata"]["generation"] == 1


def test_from_one_to_five_to_two_members_under_load(mail: Mail) -> None:
    dead = wire.dead_destination(mail)
    with mail.receiving() as receiver:
        with clients.sending(25, address=mail.address, to="someone@example.com", clients=4) as record:
            mail.scale(5)
            waiting.until(lambda: mail.ready_members() == 5, seconds=400, what="five members")
            with clients.sending(25, address=mail.address, to=f"someone@{dead.domain}", clients=4) as stuck:
                waiting.until(clients.after(stuck, 300), seconds=300, what="mail for a dead destination")
            began = time.monotonic()
            mail.scale(2)
            waiting.until(lambda: len(mail.pods()) == 2, seconds=400, what="two members")
            print(
                f"5 to 2 members with {len(stuck.acknowledged)} messages that wait: {time.monotonic() - began:.0f} s"
            )
            waiting.until(clients.after(record, 10), seconds=120, what="traffic")
        waiting.until(
            lambda: receiver.message_ids() == sorted(record.acknowledged),
            seconds=300,
            what="each message once",
        )
    with dead.receiving() as revived:
        waiting.until(
            lambda: revived.message_ids() == sorted(stuck.acknowledged), seconds=300, what="each message once"
        )


def test_the_second_operator_takes_over_when_the_first_is_killed(letterlock: Cluster) -> None:
    system = letterlock.kubectl.within(SYSTEM)
    installed.operators(letterlock, 2)

    def holder() -> str:
        return str(system.json("get", "lease", OPERATOR)["spec"].get("holderIdentity") or "")

    first = waiting.until(holder, seconds=60, what="a holder of the Lease")
    pod = first.rpartition("-")[0]
    began = time.monotonic()
    system("delete", "pod", pod, "--grace-period=0", "--force")
    waiting.until(lambda: holder() not in ("", first), seconds=60, what="another holder")
    took = time.monotonic() - began
    print(f"the second operator acts after {took:.1f} s")
    assert took < LEASE_SECONDS + 5, "its own time, and a busy machine's"
    installed.operators(letterlock, 1)


def test_members_go_on_without_an_api_server_and_all_converges_afterwards(mail: Mail) -> None:
    process = mail.cluster.processes["kube-apiserver"]
    address = mail.address
    with mail.receiving() as receiver:
        with clients.sending(25, address=address, to="someone@example.com", clients=2) as record:
            waiting.until(clients.after(record, 5), seconds=60, what="traffic")
            os.kill(process.pid, signal.SIGSTOP)
            try:
                ends = time.monotonic() + 60
                while time.monotonic() < ends:
                    waiting.until(clients.after(record, 5), seconds=60, what="traffic without an API server")
                meanwhile = [*record.failures]
            finally:
                os.kill(process.pid, signal.SIGCONT)
            patch = json.dumps({"spec": {"defaultPolicy": {"tls": {"mode": "Required"}}}})
            waiting.until(
                lambda: (
                    mail.kubectl.run("patch", LISTENER, "--type=merge", f"--patch={patch}").returncode == 0
                ),
                seconds=120,
                what="an API server that answers",
            )
            waiting.until(
                lambda: mail.kubectl.json("get", LISTENER)["status"].get("tls") == "Required",
                seconds=180,
                what="the change in the status",
            )
            mail.wait_condition(LISTENER, "Programmed")
        assert meanwhile == []
        # An elected controller manager gives all nodes a new start: none is taken for dead for its silence meanwhile.
        assert record.failures == [], "sessions when the API server was back"
        waiting.until(
            lambda: receiver.message_ids() == sorted(record.acknowledged),
            seconds=180,
            what="each message once",
        )
    mail.wait_condition(GATEWAY, "Programmed")
