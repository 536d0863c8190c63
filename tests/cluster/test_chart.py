"""The chart on real pods: the README's commands as they stand there, a new release under load, and what an end leaves.

Before the other tests here (by its name): the release serves its own namespace, and later one operator serves all.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import wire
from tests.harness import installed, letters, waiting
from tests.harness.apiserver import Kubectl
from tests.harness.certificates import Authority
from tests.harness.cluster import Cluster
from tests.harness.helm import CHART
from tests.harness.postfix import Postfix
from tests.harness.quickstart import resource
from tests.harness.swaks import swaks
from tests.mail import clients

REPOSITORY = CHART.parents[1]
# What the README calls the image, the mail store of the example's values, and the namespace.
IMAGE = "registry.example.com/letterlock"
STORE = "store.example.com"
NAMESPACE = "mail"
OPERATIONS = "docs/operations.md"
# Where members bind their listener's port 25.
IN_POD = 10025
AUTHORITY = Authority()


def commands(page: str, word: str) -> list[str]:
    """Those of the block in `page` that `word` stands in, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / page).read_text(), flags=re.DOTALL)
    (block,) = [one for one in blocks if word in one]
    lines = [line.partition("  #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


def run(cluster: Cluster, command: str, folder: Path = REPOSITORY, *, ends: Collection[int] = (0,)) -> str:
    """What the command says, with our programs, helm and kubectl on the PATH.

    Raises AssertionError where it does not end with one of these statuses.
    """
    kubectl = cluster.kubectl
    # As after `kubectl config set-context --current --namespace=mail`.
    context = yaml.safe_load(kubectl.kubeconfig.read_text())
    context["contexts"][0]["context"]["namespace"] = NAMESPACE
    own = kubectl.kubeconfig.with_name("of-the-page")
    own.write_text(yaml.safe_dump(context))
    path = (str(kubectl.program.parent), str(Path(sys.executable).parent), os.environ["PATH"])
    environment = {**os.environ, "PATH": os.pathsep.join(path), "KUBECONFIG": str(own)}
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode not in ends:
        pods = cluster.kubectl.within(NAMESPACE).run("describe", "pods").stdout
        raise AssertionError(f"{command}: {said}\n{pods[-4000:]}")
    return said


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody works who has the chart at hand."""
    made = tmp_path_factory.mktemp("place")
    (made / "helm").symlink_to(REPOSITORY / "helm")
    return made


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
        install, *rest = commands("README.md", "helm install")
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
    cluster: Cluster, release: Kubectl, store: Postfix, place: Path
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
        # The values file that the page has is the one of the release, with a newer image.
        values = run(cluster, f"helm get values mail -n {NAMESPACE} -o yaml")
        (place / "values.yaml").write_text(
            yaml.safe_dump(yaml.safe_load(values) | {"image": {"repository": IMAGE, "tag": "next"}})
        )
        (upgrade,) = commands(OPERATIONS, "helm upgrade")
        said = run(cluster, upgrade, place)
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


def test_the_page_on_running_it_works_as_it_stands(
    cluster: Cluster, release: Kubectl, place: Path, tmp_path: Path
) -> None:
    *_, status = [run(cluster, command) for command in commands(OPERATIONS, "kubectl wait")]
    assert "public" in status
    assert "default-1" in status

    # Mail that waits: the store is not who it should be for a while.
    wrong = '{"spec":{"tls":{"names":["other.example.net"]}}}'
    right = f'{{"spec":{{"tls":{{"names":["{STORE}"]}}}}}}'
    release("patch", "destinationcontrol/example-com", "--type=merge", f"--patch={wrong}")
    release("wait", "--for=condition=Programmed", "--timeout=3m", "destinationcontrol/example-com")
    address = str(release.json("get", "service", "letterlock-public")["spec"]["clusterIP"])
    text = letters.letter(to="someone@example.com", message_id="<5f2a@client.example>")
    sender = "someone@example.net"
    done = swaks(25, address=address, sender=sender, to="someone@example.com", data=text, directory=tmp_path)
    assert done.accepted, done.text

    def waits() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            run(cluster, f"letterlock queue list -n {NAMESPACE} -o json 2>/dev/null")
        )
        return [one for one in found if one["recipients"][0]["state"] == "deferred"]

    waiting_now = waiting.until(waits, seconds=120, what="a message that waits")[0]
    mid, tries = str(waiting_now["mid"]), waiting_now["recipients"][0]["attempts"]
    told: dict[str, str] = {}
    for command in commands(OPERATIONS, "queue retry"):
        # Its number is another one here.
        told[command] = run(cluster, command.replace("7002", mid))
        if "retry" in command:
            waiting.until(
                lambda: any(one["recipients"][0]["attempts"] > tries for one in waits()),
                seconds=120,
                what="it waits again",
            )
    listed, shown, retried, deleted, *tracked = told.values()
    assert "NameMismatch" in listed or "other.example.net" in listed
    assert f"<{sender}>" in shown
    assert "is tried now" in retried
    assert "deleted" in deleted
    assert all("someone@example.com" in one for one in tracked)
    assert len(tracked) == 2

    release("patch", "destinationcontrol/example-com", "--type=merge", f"--patch={right}")
    release("wait", "--for=condition=Programmed", "--timeout=3m", "destinationcontrol/example-com")
    for command in commands(OPERATIONS, "letterlock check"):
        # From outside of the pods the names in the cluster, and of the Internet, are not known: 1 says so.
        said = run(cluster, command, ends=(0,) if "--inside" in command else (0, 1))
        assert "RequiredVerify" in said, command
    for command in commands(OPERATIONS, "secrets.yaml"):
        run(cluster, command, place)
    kept = yaml.safe_load((place / "resources.yaml").read_text())["items"]
    assert {one["kind"] for one in kept} >= {"MailGateway", "Certificate", "Listener", "CAList"}
    secrets = yaml.safe_load((place / "secrets.yaml").read_text())["items"]
    assert "letterlock-cert-mx" in {one["metadata"]["name"] for one in secrets}


def test_an_uninstalled_release_leaves_its_spools_and_what_it_says(
    cluster: Cluster, release: Kubectl, place: Path
) -> None:
    (uninstall,) = commands(OPERATIONS, "helm uninstall")
    run(cluster, uninstall)
    # helm keeps the pods of its tests, so that their logs can be read.
    installed.wait_nothing_left(release, {"CAList/store", "Pod/mail-letterlock-test"})
    claims = release.json("get", "persistentvolumeclaims")["items"]
    assert sorted(one["metadata"]["name"] for one in claims) == ["spool-default-0", "spool-default-1"]
    wide = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    names = release("get", wide, "--output=name").split()
    assert not [one for one in names if f"/{NAMESPACE}-mail" in one]
    assert release("get", "crd", "mailgateways.letterlock.dev", "--output=name")
    # What was backed up can be applied, with the status in it.
    restored = run(cluster, f"kubectl apply -n {NAMESPACE} -f resources.yaml --dry-run=server", place)
    assert "mailgateway.letterlock.dev/default created" in restored
    # And then all of it goes, as the page has it.
    for command in commands(OPERATIONS, "kubectl delete pvc"):
        run(cluster, command)
    assert not release.json("get", "persistentvolumeclaims")["items"]
    assert "letterlock.dev" not in release("get", "crd", "--output=name")
    # They come back by the line that the page has for it: other tests here go on with them.
    operations = (REPOSITORY / OPERATIONS).read_text()
    (apply,) = re.findall(r"`(kubectl apply --server-side [^`]*crds)`", operations)
    assert "mailgateways.letterlock.dev serverside-applied" in run(cluster, apply)
