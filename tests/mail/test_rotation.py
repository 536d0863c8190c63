"""New certificates reach a listener that is never idle: no session fails. A broken pair changes nothing."""

import time
from collections.abc import Sequence
from hashlib import sha256

import pytest

from letterlock_api.snapshot import ca_file_name, tls_file_name
from tests.harness import mounts, waiting
from tests.harness.certificates import Authority, leaf_der
from tests.harness.relay import LISTENER_NAME
from tests.mail import clients
from tests.mail.between import Between, MakeBetween


def fingerprint(pem: bytes) -> str:
    """As the clients note it."""
    return sha256(leaf_der(pem)).hexdigest()


def test_replacing_the_certificate_under_20_clients_fails_no_session(
    between: MakeBetween, authority: Authority
) -> None:
    made = between()
    served = [made.relay.listener_pem]
    with clients.sending(made.port) as record:
        waiting.until(clients.after(record, 50), what="traffic", seconds=60)
        for _ in range(3):
            served.append(authority.issue(LISTENER_NAME))
            made.relay.listener_pem = served[-1]
            made.relay.apply()
            # From the moment that the member says so, new sessions get the new certificate.
            applied = time.monotonic()
            waiting.until(clients.after(record, 50), what="traffic", seconds=60)
            assert record.certificates_since(applied) == {fingerprint(served[-1])}
    assert record.failures == []
    assert [fingerprint(pem) for pem in served] == list(dict.fromkeys(first_seen(record.certificates)))
    waiting.until(lambda: made.member.queue() == 0, seconds=120, what="an empty queue")
    arrived = waiting.until(
        lambda: len(made.receiver.messages()) == len(record.acknowledged) and made.receiver.message_ids(),
        seconds=60,
        what="all messages in the mailbox",
    )
    assert arrived == sorted(record.acknowledged)


def first_seen(values: Sequence[str]) -> list[str]:
    """Each value once, in the order in which it first came."""
    return list(dict.fromkeys(values))


def broken_sets(made: Between, authority: Authority) -> dict[str, tuple[mounts.Files, str]]:
    """Files for a set that must not be taken, and what the refusal should speak of."""
    good = authority.issue(LISTENER_NAME)
    key, _, _ = good.partition(b"-----BEGIN CERTIFICATE-----")
    _, mark, other_certificate = authority.issue(LISTENER_NAME).partition(b"-----BEGIN CERTIFICATE-----")
    contents = {
        "key of another certificate": key + mark + other_certificate,
        "no key": mark + other_certificate,
        "no certificate": key,
        "not PEM": b"rubbish\n",
        "empty": b"",
    }
    sets: dict[str, tuple[mounts.Files, str]] = {}
    for what, content in contents.items():
        files = mounts.Files()
        files.content[tls_file_name(content)] = content
        sets[what] = (files, tls_file_name(content))
    return sets


@pytest.mark.parametrize(
    "what",
    [
        "key of another certificate",
        "no key",
        "no certificate",
        "not PEM",
        "empty",
        "file missing",
        "file altered",
    ],
)
def test_a_broken_pair_never_reaches_a_listener(
    between: MakeBetween, authority: Authority, what: str
) -> None:
    made = between()
    good = fingerprint(made.relay.listener_pem)
    before = made.member.state()
    assert before is not None
    if what in ("file missing", "file altered"):
        files = mounts.Files()
        file = (entry := files.certificate(authority.issue(LISTENER_NAME))).file
        assert file is not None
        if what == "file altered":
            files.content[file] += b"\n"
    else:
        files, file = broken_sets(made, authority)[what]
        entry = mounts.ServedCertificate(name="public", file=file)
    trust = files.trust(authority.pem)
    assert trust.file == ca_file_name(authority.pem)
    policy = mounts.policy(tls_mode="Preferred")
    broken = mounts.snapshot(
        files,
        listeners=[mounts.listener(made.port, policies=[policy], certificates=[entry])],
        trust={"partners": trust},
    )
    if what == "file missing":
        del files.content[file]
    made.member.mount.publish(broken, files)

    def refused() -> bool:
        state = made.member.state()
        return bool(state and state.refused == broken.hash() and state.refused_reason)

    waiting.until(refused, what="the refusal in the member's state")
    with clients.sending(made.port, clients=4) as record:
        waiting.until(clients.after(record, 20), what="traffic", seconds=60)
    assert record.failures == []
    assert set(record.certificates) == {good}
    after = made.member.state()
    assert after is not None
    assert after.snapshot == before.snapshot
    # And a good one heals it.
    made.relay.listener_pem = authority.issue(LISTENER_NAME)
    made.relay.apply()
    healed = made.member.state()
    assert healed is not None
    assert (healed.refused, healed.refused_reason) == ("", "")
