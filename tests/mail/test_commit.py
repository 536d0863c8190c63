"""Submit and commit (L9): fifty changes in a row under load, valid and not; nobody ever sees half of one."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cli.upped import Upped
from tests.harness import ports, waiting
from tests.harness.certificates import Authority
from tests.mail import commits
from tests.mail.commits import Client, Version

CHANGES = 50
CLIENTS = 4

type Manifests = list[dict[str, Any]]
type Wrong = Callable[["Attempt"], tuple[str, str]]
"""Gives a file and what is said of it."""


@dataclass(frozen=True)
class Attempt:
    """A change that will not be taken."""

    version: Version
    before: Version
    """What is in force."""
    port: int
    authority: Authority

    def file(self, *, chain: bool = True, pair: bytes | None = None, **changes: Any) -> str:
        """The version with these fields of its Listener changed. The MailGateway stays: it would count."""
        listener = self.version.listener(self.port, **changes)
        return dump([self.before.gateway(), listener, *(self.version.chain(pair) if chain else ())])

    def policy(self, **changes: Any) -> dict[str, Any]:
        """The version's default policy, changed."""
        return {**self.version.listener(self.port)["spec"]["defaultPolicy"], **changes}


def dump(manifests: Manifests) -> str:
    return yaml.safe_dump_all(manifests)


def wrong_policy(attempt: Attempt) -> tuple[str, str]:
    groups = [{"name": "all", "senders": ["ALL"], "policy": "nowhere"}]
    return attempt.file(senderGroups=groups), "UnknownPolicy"


def open_relay(attempt: Attempt) -> tuple[str, str]:
    return attempt.file(defaultPolicy=attempt.policy(behavior="Relay")), "OpenRelay"


def no_certificate(attempt: Attempt) -> tuple[str, str]:
    policy = attempt.policy(tls={"mode": "Preferred"})
    return attempt.file(chain=False, defaultPolicy=policy), "CertificateNotFound"


def broken_pair(attempt: Attempt) -> tuple[str, str]:
    """The whole chain at once, with another one's key at its far end."""
    key = attempt.authority.issue("other.example").partition(b"-----BEGIN CERTIFICATE-----")[0]
    _, mark, rest = attempt.version.pair.partition(b"-----BEGIN CERTIFICATE-----")
    policy = attempt.policy(tls={"mode": "Preferred"})
    return attempt.file(pair=key + mark + rest, defaultPolicy=policy), "CertificateNotReady"


def no_directory(attempt: Attempt) -> tuple[str, str]:
    return attempt.file(acceptQuery={"ldap": "nowhere"}), "nowhere"


def no_cipher(attempt: Attempt) -> tuple[str, str]:
    tls = {"mode": "Preferred", "ciphers": "NO-SUCH-CIPHER"}
    return attempt.file(defaultPolicy=attempt.policy(tls=tls)), "NO-SUCH-CIPHER"


def unknown_field(attempt: Attempt) -> tuple[str, str]:
    return attempt.file(recipient=[{"match": ["typo.example"]}]), "recipient"


def bad_value(attempt: Attempt) -> tuple[str, str]:
    return attempt.file(defaultPolicy=attempt.policy(tls={"mode": "Sometimes"})), "tls.mode"


def bad_address(attempt: Attempt) -> tuple[str, str]:
    groups = [{"name": "odd", "senders": ["10.0.0.999"], "policy": "some"}]
    return attempt.file(senderGroups=groups, mailFlowPolicies=[{"name": "some"}]), "10.0.0.999"


def half_written(attempt: Attempt) -> tuple[str, str]:
    text = attempt.file()
    return text[: len(text) // 2] + "\n  - [", "is not YAML"


WRONG: tuple[Wrong, ...] = (
    wrong_policy, open_relay, no_certificate, broken_pair, no_directory, no_cipher, unknown_field, bad_value,
    bad_address, half_written,
)  # fmt: skip


def test_fifty_changes_under_load_and_no_connection_sees_a_mixture(tmp_path: Path) -> None:
    chance = random.Random(9)
    wrongs = itertools.cycle(chance.sample(WRONG, len(WRONG)))
    authority = Authority()
    port = ports.free_port()
    versions = {0: commits.make(0, "Preferred", authority)}
    folder = tmp_path / "folder"
    folder.mkdir()

    def put(text: str) -> None:
        scratch = tmp_path / "scratch.yaml"
        scratch.write_text(text)
        scratch.replace(folder / "all.yaml")

    put(dump(versions[0].manifests(port)))
    up = Upped(folder, tmp_path / "state", port, 0, workers=2)
    up.start()
    refused: dict[str, int] = {}
    try:
        taken(up, port, versions, 0)
        with commits.load(port, versions, CLIENTS) as seen:
            for number in range(1, CHANGES + 1):
                current = max(versions)
                version = commits.make(number, chance.choice(("No", "Preferred", "Required")), authority)
                with Client(port, versions) as lingering:
                    if chance.random() < 0.5:
                        versions[number] = version
                        put(dump(version.manifests(port)))
                        taken(up, port, versions, number)
                    else:
                        wrong = next(wrongs)
                        text, words = wrong(Attempt(version, versions[current], port, authority))
                        put(text)
                        refusal(up, words)
                        refused[wrong.__name__] = refused.get(wrong.__name__, 0) + 1
                        serves(port, versions, current)
                        put(dump(versions[current].manifests(port)))
                        waiting.until(lambda: not said(up), seconds=60, what="nothing wrong any more")
                    assert lingering.number == current
                    lingering.rest()  # it began under the version before, and ends under it
        print(f"seen: {seen.connections}; refused: {refused}")
        assert seen.failures == []
        assert set(seen.connections) <= set(versions)
        assert sum(seen.connections.values()) > 5 * CHANGES
        assert set(refused) == {one.__name__ for one in WRONG}
    finally:
        status = up.stop()
        print((tmp_path / "stderr").read_text()[-4000:])
    assert status == 0


def refusal(up: Upped, words: str) -> None:
    """Wait until it is said what is wrong."""
    waiting.until(lambda: words in said(up), seconds=60, what=f"{words} among what is wrong")


def said(up: Upped) -> str:
    """All that is wrong, in words: of the folder, and in the Listener's conditions."""
    problems = up.state / "problems"
    conditions = up.status("Listener", "public").get("conditions", [])
    wrong = [f"{one['reason']} {one['message']}" for one in conditions if one["status"] != "True"]
    return "\n".join([*wrong, problems.read_text() if problems.exists() else ""]).strip()


def taken(up: Upped, port: int, versions: dict[int, Version], number: int) -> None:
    """Wait until the Listener says that all workers run this version, and see that they do."""

    def programmed() -> bool:
        if up.condition("Listener", "public", "Programmed").get("status") != "True":
            return False
        with Client(port, versions) as client:
            return client.number == number

    waiting.until(programmed, seconds=60, what=f"version {number} Programmed")
    serves(port, versions, number)


def serves(port: int, versions: dict[int, Version], number: int) -> None:
    """See that new connections, which the kernel deals out among the workers, get this version."""
    for _ in range(4):
        with Client(port, versions) as client:
            assert client.number == number
            client.rest()
