"""Commands that ask members through pods/exec, on members that run as pods: queue, track, check (D11, D12, D15)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcrypt

from tests.harness import installed, letters, waiting
from tests.harness.cluster import Cluster
from tests.harness.installed import Mail
from tests.harness.quickstart import condition
from tests.harness.swaks import swaks

# Where a member binds its listener's port 25.
_IN_POD = 10025
_PAGES = 8443


def run(mail: Mail, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on the gateway's namespace."""
    command = [sys.executable, "-m", "letterlock_cli", *arguments, "--namespace", mail.kubectl.namespace]
    command += ["--kubeconfig", str(mail.kubectl.kubeconfig)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def command(mail: Mail, *arguments: str) -> str:
    """The output of a command that goes well."""
    done = run(mail, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def found(mail: Mail, *arguments: str) -> list[dict[str, Any]]:
    """The messages that a command finds; none where it finds none."""
    done = run(mail, *arguments, "--output", "json")
    assert done.returncode == 0 or "no message fits" in done.stderr, done.stderr
    return json.loads(done.stdout)


def checked(mail: Mail, *, status: int) -> list[dict[str, Any]]:
    """What each member finds out about the destination, without mail; the command must end with this status."""
    done = run(mail, "check", "example.com", "--inside", "--output", "json")
    assert done.returncode == status, done.stdout + done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    assert [one["from"] for one in answers] == ["default-0", "default-1"]
    return answers


def send(mail: Mail, member: str, identity: str, directory: Path) -> bytes:
    """Hand a message to this member, and no other."""
    text = letters.letter(to="someone@example.com", message_id=identity)
    address = mail.pods()[member]["status"]["podIP"]
    done = swaks(_IN_POD, address=address, to="someone@example.com", data=text, directory=directory)
    assert done.accepted, done.text
    return text


def browsed(mail: Mail, member: str, directory: Path, *paths: str) -> list[str]:
    """The management pages at these paths, as this member answers them to somebody who signs in."""
    user, password = "ada", "correct horse"
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode()
    mail.kubectl("create", "secret", "generic", "managers", f"--from-literal=htpasswd={user}:{hashed}")
    management = {"https": {"port": _PAGES}, "usersSecretRef": {"name": "managers"}}
    patch = json.dumps({"spec": {"management": management}})
    mail.kubectl("patch", installed.GATEWAY, "--type=merge", f"--patch={patch}")
    generation = mail.kubectl.json("get", installed.GATEWAY)["metadata"]["generation"]

    def served() -> bool:
        found = condition(mail.kubectl, installed.GATEWAY, "Programmed")
        return found.get("status") == "True" and found.get("observedGeneration") == generation

    waiting.until(served, seconds=180, what="the pages on all members")
    name, address = "mx.example.com", mail.pods()[member]["status"]["podIP"]
    site = f"https://{name}:{_PAGES}"
    jar = str(directory / "cookies")
    curl = ["curl", "-sSk", "-m", "60", "-b", jar, "-c", jar, "--resolve", f"{name}:{_PAGES}:{address}"]
    form = ["--data-urlencode", f"user={user}", "--data-urlencode", f"password={password}"]
    form += ["-H", f"Origin: {site}", "-H", "Sec-Fetch-Site: same-origin"]
    subprocess.run([*curl, *form, f"{site}/sign-in"], check=True, capture_output=True)

    def whole(path: str) -> str | None:
        text = subprocess.run([*curl, f"{site}{path}"], check=True, capture_output=True, text=True).stdout
        return text if "could not be read" not in text else None

    return [
        waiting.until(lambda path=path: whole(path), seconds=120, every=1, what=f"{path} of all members")
        for path in paths
    ]


def test_mail_on_any_member_is_found_tried_now_deleted_and_tracked(
    letterlock: Cluster, tmp_path: Path
) -> None:
    # What waits is tried when it is told to, and not before.
    with installed.gateway(letterlock, replicas=2, retry={"initial": "1h", "max": "1h"}) as mail:
        waiting.until(lambda: mail.ready_members() == 2, seconds=180, what="two members")
        wanted = {
            member: send(mail, member, f"<wanted.{member}@client.example>", tmp_path)
            for member in ("default-0", "default-1")
        }
        send(mail, "default-1", "<unwanted@client.example>", tmp_path)
        waiting.until(
            lambda: (
                [one["recipients"][0]["state"] for one in found(mail, "queue", "list")] == ["deferred"] * 3
            ),
            seconds=60,
            what="three messages that wait, on both members",
        )
        assert "no connection" in command(mail, "queue", "list")
        # The pages of one member show what waits on both: they ask each other by their names in the cluster.
        overview, queue = browsed(mail, "default-0", tmp_path, "/", "/queue")
        assert overview.count(">Runs<") == 2
        for member in wanted:
            assert f'data-label="Member" class="nowrap">{member}</td>' in queue
        for one in checked(mail, status=1):
            assert (one["delivered"], one["verdict"]["result"]) == (False, "Unreachable")
        [unwanted] = found(mail, "track", "--message-id", "unwanted@client.example")
        assert unwanted["member"] == "default-1"
        named = (str(unwanted["mid"]), "--member", "default-1")
        assert "<unwanted@client.example>" in command(mail, "queue", "show", *named)
        assert "deleted" in command(mail, "queue", "delete", *named)
        with mail.receiving() as receiver:
            assert "is tried now" in command(mail, "queue", "retry", "--all")
            for text in wanted.values():
                waiting.until(
                    lambda text=text: letters.arrived(text, receiver.messages()),
                    seconds=60,
                    what="a message in the mailbox",
                )
            waiting.until(lambda: not found(mail, "queue", "list"), seconds=60, what="an empty queue")
            assert len(receiver.messages()) == 2
            for one in checked(mail, status=0):
                assert (one["delivered"], one["mode"]) == (True, "RequiredVerify")
                assert one["verdict"]["matchedName"] == "example.com"
                [tls] = [each["tls"] for each in one["nextHops"][0]["connections"]]
                assert tls["protocol"] == "TLSv1.3"
            words = command(mail, "check", "example.com", "--member", "default-1")
            assert "* RequiredVerify " in words
            assert "verified by example.com" in words
        for member in wanted:
            [tracked] = found(mail, "track", "--message-id", f"wanted.{member}@client.example")
            assert tracked["member"] == member
            assert tracked["receivedOver"]["protocol"] == "TLSv1.3"
            [to] = tracked["recipients"]
            assert (to["state"], to["protocol"], to["verified"]) == ("delivered", "TLSv1.3", True)
            assert (to["matchedName"], to["reply"][:3]) == ("example.com", "250")
        [gone] = found(mail, "track", "--mid", str(unwanted["mid"]), "--member", "default-1")
        assert gone["recipients"][0]["state"] == "deleted"
        assert {
            one["member"] for one in found(mail, "track", "--to", "@example.com", "--since", "1h")
        } == set(wanted)
