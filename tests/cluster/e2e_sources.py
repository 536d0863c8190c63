"""Whom a member sees on real pods: the client itself, through a NodePort and through haproxy. `make e2e` runs it."""

import contextlib
import json
import subprocess
from collections.abc import Generator

from tests.harness import waiting
from tests.harness.haproxy import Haproxy
from tests.harness.installed import LISTENER, Mail
from tests.harness.quickstart import resource
from tests.harness.sandbox import Sandbox
from tests.harness.swaks import swaks

KNOWN, STRANGER = "10.200.0.50", "10.200.0.60"


@contextlib.contextmanager
def machine(address: str) -> Generator[Sandbox]:
    """Another machine in the node's network, with this address."""
    holder = subprocess.Popen(
        ("unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"), stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    outside = f"m{address.rpartition('.')[2]}"
    try:
        assert holder.stdout.readline() == b"ready\n"
        for command in (
            f"ip link add {outside} type veth peer name eth0 netns {holder.pid}",
            f"ip link set {outside} master nodes up",
            f"nsenter --net=/proc/{holder.pid}/ns/net ip address add {address}/24 dev eth0",
            f"nsenter --net=/proc/{holder.pid}/ns/net ip link set eth0 up",
        ):
            subprocess.run(command.split(), check=True)
        yield Sandbox(holder.pid, address)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_node_port_shows_the_client_and_a_private_listener_refuses_strangers(mail: Mail) -> None:
    mail.kubectl("patch", LISTENER, "--type=merge", '--patch={"spec":{"service":{"type":"NodePort"}}}')
    private = resource(
        "Listener",
        "private",
        type="Private",
        port=26,
        service={"type": "NodePort"},
        senderGroups=[{"name": "ours", "senders": [KNOWN], "policy": "relay"}],
        mailFlowPolicies=[{"name": "relay", "behavior": "Relay"}],
    )
    mail.kubectl.apply(private)
    mail.wait_condition(LISTENER, "Programmed")
    mail.wait_condition("listeners.letterlock.dev/private", "Programmed")

    def port(service: str) -> int:
        spec = mail.kubectl.json("get", "service", service)["spec"]
        assert spec["externalTrafficPolicy"] == "Local"
        return int(spec["ports"][0]["nodePort"])

    node = mail.cluster.address
    public_port, private_port = (
        waiting.until(lambda name=name: port(name), seconds=60, what="a NodePort")
        for name in ("letterlock-public", "letterlock-private")
    )
    with machine(KNOWN) as known, machine(STRANGER) as stranger:
        with known.inside():
            waiting.until(
                lambda: swaks(public_port, address=node, to="a@example.com").accepted,
                seconds=60,
                what="an open port",
            )
            relayed = swaks(private_port, address=node, to="a@example.com", tls=False)
            assert relayed.accepted, relayed.text
        with stranger.inside():
            refused = swaks(private_port, address=node, to="a@example.com", tls=False)
            assert not refused.accepted, refused.text
    log = mail.kubectl("logs", "default-0")
    assert all(f'address {one}"' in log for one in (KNOWN, STRANGER)), log


def test_behind_haproxy_the_member_sees_the_client(mail: Mail) -> None:
    spec = {"proxyProtocol": {"from": [f"{mail.cluster.address}/32", "10.201.0.1/32"]}}
    mail.kubectl("patch", LISTENER, "--type=merge", f"--patch={json.dumps({'spec': spec})}")
    mail.wait_condition(LISTENER, "Programmed")
    with (
        Haproxy(25, {"v2": "send-proxy-v2"}, address=mail.address, source=mail.cluster.address) as haproxy,
    ):
        port = haproxy.port("v2")
        for client in ("127.0.0.21", "127.0.0.22"):
            sent = swaks(port, to="a@example.com", options=["--local-interface", client])
            assert sent.accepted, sent.text
    log = mail.kubectl("logs", "default-0")
    assert all(f'address 127.0.0.{last}"' in log for last in (21, 22)), log
