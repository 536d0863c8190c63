"""The chart on real pods: the README's commands as they stand there, a new release under load, and what an end leaves.

Before the other tests here (by its name): the release serves its own namespace, and later one operator serves all.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import wire
from tests.harness import installed, waiting
from tests.harness.apiserver import Kubectl
from tests.harness.certificates import Authority
from tests.harness.cluster import Cluster
from tests.harness.helm import CHART
from tests.harness.postfix import Postfix
from tests.harness.quickstart import resource
from tests.mail import clients

REPOSITORY = CHART.parents[1]
# What the README calls the image, the mail store of the example's values, and the namespace.
IMAGE = "registry.example.com/letterlock"
STORE = "store.example.com"
NAMESPACE = "mail"
# Where members bind their listener's port 25.
IN_POD = 10025
AUTHORITY = Authority()


def commands() -> list[str]:
    """The README's, from an empty cluster to a message that was delivered over verified TLS."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.DOTALL)
    (block,) = [one for one in blocks if "helm install" in one]
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def run(cluster: Cluster, command: str) -> str:
    """What the command says, with helm and kubectl on the PATH. Raises AssertionError where it ends badly."""
    kubectl = cluster.kubectl
    environment = {
        **os.environ,
        "PATH": f"{kubectl.program.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubectl.kubeconfig),
    }
    done = subprocess.run(
        command,
        shell=True,
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode != 0:
        pods = cluster.kubectl.within(NAMESPACE).run("describe", "pods").stdout
        raise AssertionError(f"{command}: {said}\n{pods[-4000:]}")
    return said


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> Iterator[Postfix]:
    """The mail store of the example's values, with a certificate of a private CA."""
    with (
        cluster.inside(),
        Postfix.receiving(
            certificate=AUTHORITY.issue(STORE),
            domains=("example.com",),
            port=25,
            address=cluster.address,
            name=STORE,
        ) as receiver,
    ):
        cluster.resolve(STORE, cluster.address)
        yield receiver


@pytest.fixture(scope="module")
def release(cluster: Cluster, store: Postfix) -> Iterator[Kubectl]:
    """The README's commands have been run, in a namespace that takes only pods which ask for no privilege."""
    with cluster.inside():
        version = re.findall(r"^appVersion: (.*)$", (CHART / "Chart.yaml").read_text(), flags=re.MULTILINE)[0]
        cluster.tag(cluster.image, f"{IMAGE}:{version}")
        cluster.tag(cluster.image, f"{IMAGE}:next")
        kubectl = cluster.kubectl.within(NAMESPACE)
        cluster.kubectl.apply(installed.restricted(NAMESPACE))
        install, *rest = commands()
        assert len(rest) == 4, "five commands"
        run(cluster, install)
        kubectl.apply(resource("CAList", "store", certificates=AUTHORITY.pem.decode()))
        for command in rest:
            run(cluster, command)
        # Programmed speaks of members that are ready: the second one may still come.
        installed.rolled_out(kubectl, "statefulset/default")
        yield kubectl
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_the_five_commands_of_the_readme_deliver_a_message_over_verified_tls(
    release: Kubectl, store: Postfix
) -> None:
    (message,) = store.messages()
    assert b"using TLSv1.3" in message
    last = release.json("get", "destinationcontrol/example-com")["status"]["lastTLS"]
    assert (last["verified"], last["matchedName"], last["host"]) == (True, STORE, STORE)


def test_certificates_of_both_levels_reach_every_member(release: Kubectl) -> None:
    cluster_level = release.json("get", "certificates.letterlock.dev/mx")["status"]["fingerprint"]
    assert shown(release) == {"default-0": cluster_level, "default-1": cluster_level}
    release.apply(
        resource("Certificate", "own", level="Machine", subject={"commonName": "mx{ordinal}.example.com"})
    )
    release(
        "patch", "listener/public", "--type=merge", '--patch={"spec":{"certificateRefs":[{"name":"own"}]}}'
    )

    def each_its_own() -> bool:
        members = release.json("get", "certificates.letterlock.dev/own").get("status", {}).get("members", ())
        wanted = {one["name"]: one["fingerprint"] for one in members}
        return len(set(wanted.values())) == 2 and shown(release) == wanted

    waiting.until(each_its_own, seconds=120, what="a certificate of its own on each member")
    release(
        "patch", "listener/public", "--type=merge", '--patch={"spec":{"certificateRefs":[{"name":"mx"}]}}'
    )
    waiting.until(
        lambda: set(shown(release).values()) == {cluster_level}, seconds=120, what="the same one again"
    )
    release("delete", "certificates.letterlock.dev/own")


def shown(kubectl: Kubectl) -> dict[str, str]:
    """By member: sha256 of the certificate that it shows."""
    found = {one["metadata"]["name"]: str(one["status"]["podIP"]) for one in members(kubectl)}
    return {name: wire.served(address, IN_POD) for name, address in found.items()}


def test_a_new_release_comes_to_two_members_under_load_without_a_failed_session(
    cluster: Cluster, release: Kubectl, store: Postfix
) -> None:
    address = str(release.json("get", "service", "letterlock-public")["spec"]["clusterIP"])
    before = {one["metadata"]["uid"] for one in members(release)}

    def renewed() -> bool:
        found = members(release)
        return len(found) == 2 and all(
            one["metadata"]["uid"] not in before and one["spec"]["containers"][0]["image"] == f"{IMAGE}:next"
            for one in found
        )

    with clients.sending(25, address=address, to="someone@example.com", clients=3) as record:
        waiting.until(clients.after(record, 10), seconds=120, what="traffic")
        said = run(
            cluster,
            f"helm upgrade mail helm/letterlock -n {NAMESPACE} --reuse-values --set image.tag=next --timeout=5m",
        )
        assert "STATUS: deployed" in said
        waiting.until(renewed, seconds=300, what="members of the new release")
        installed.rolled_out(release, "statefulset/default")
        waiting.until(clients.after(record, 10), seconds=120, what="traffic")
    assert wire.refused(record) == []
    waiting.until(
        lambda: (
            sorted(one for one in store.message_ids() if one.endswith("@client.example>"))
            == sorted(record.acknowledged)
        ),
        seconds=180,
        what="each message once",
    )
    release("wait", "--for=condition=Programmed", "--timeout=3m", "mailgateway/default", "listener/public")
    assert release.json("get", "statefulset", "default")["metadata"]["generation"] == 2, (
        "one change: the image"
    )


def members(kubectl: Kubectl) -> list[dict[str, Any]]:
    """Pods of the gateway."""
    return kubectl.json("get", "pods", "--selector=letterlock.dev/gateway=default")["items"]


def test_an_uninstalled_release_leaves_its_spools_and_what_it_says(
    cluster: Cluster, release: Kubectl
) -> None:
    run(cluster, f"helm uninstall mail -n {NAMESPACE} --wait --timeout=5m")
    # helm keeps the pods of its tests, so that their logs can be read.
    installed.wait_nothing_left(release, {"CAList/store", "Pod/mail-letterlock-test"})
    claims = release.json("get", "persistentvolumeclaims")["items"]
    assert sorted(one["metadata"]["name"] for one in claims) == ["spool-default-0", "spool-default-1"]
    wide = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    names = release("get", wide, "--output=name").split()
    assert not [one for one in names if f"/{NAMESPACE}-mail" in one]
    assert release("get", "crd", "mailgateways.letterlock.dev", "--output=name")
