"""A mounted set made ready to run, or refused with a reason that names what is wrong."""

import ssl
from pathlib import Path

import pytest

from letterlock_api.snapshot import ServedCertificate, Snapshot, SnapshotDelivery
from letterlock_gateway.mount import MountedSet, MountRefused, assemble
from letterlock_gateway.running import RunningSet
from tests.harness.certificates import Authority
from tests.harness.mounts import Files, destination, listener, policy, snapshot

MEMBER = "default-0"


def mounted(taken: Snapshot, files: Files) -> MountedSet:
    return assemble(taken.encode(), files.content)


def build(taken: Snapshot, files: Files) -> RunningSet:
    return RunningSet.build(mounted(taken, files), MEMBER)


def refusal(taken: Snapshot, files: Files) -> str:
    with pytest.raises(MountRefused) as caught:
        build(taken, files)
    assert caught.value.hash == taken.hash()
    return caught.value.reason


def mismatched() -> bytes:
    """A key with somebody else's certificate."""
    one, other = (Authority().issue("mx.letterlock.example") for _ in range(2))
    end = b"-----END PRIVATE KEY-----\n"
    if end not in one:
        end = b"-----END EC PRIVATE KEY-----\n"
    return one.partition(end)[0] + end + other.partition(end)[2]


def test_tls_is_there_for_the_policies_that_offer_it_and_for_no_others() -> None:
    files = Files()
    certificate = files.certificate(Authority().issue("mx.letterlock.example"))
    policies = [policy("plain"), policy("offered", tls_mode="Preferred"), policy("must", tls_mode="Required")]
    running = build(
        snapshot(files, listeners=[listener(25, certificates=[certificate], policies=policies)]), files
    )
    contexts = running.listeners["public"].contexts
    assert contexts["plain"] is None
    assert isinstance(contexts["offered"], ssl.SSLContext)
    assert contexts["must"] is contexts["offered"], "equal settings share a context"


@pytest.mark.parametrize(
    ("pem", "words"),
    [(mismatched(), "does not belong"), (b"no PEM at all", "cannot be read")],
    ids=["a key of another certificate", "not a key"],
)
def test_a_pair_that_cannot_be_used_refuses_the_set(pem: bytes, words: str) -> None:
    files = Files()
    certificate = files.certificate(pem)
    offered = [policy(tls_mode="Preferred")]
    served = snapshot(files, listeners=[listener(25, certificates=[certificate], policies=offered)])
    reason = refusal(served, files)
    assert "listener public" in reason
    assert words in reason
    outgoing = snapshot(files, delivery=SnapshotDelivery(certificate=certificate))
    assert "outgoing mail" in refusal(outgoing, files) or "destination" in refusal(outgoing, files)


def test_a_certificate_that_this_member_does_not_have_yet_never_means_clear_text() -> None:
    files = Files()
    file = files.certificate(Authority().issue("mx1.letterlock.example")).file
    assert file is not None
    theirs = ServedCertificate(name="each", files={"default-1": file})
    offered = [policy(tls_mode="Preferred")]
    taken = snapshot(files, listeners=[listener(25, certificates=[theirs], policies=offered)])
    assert "certificate each has none for member default-0" in refusal(taken, files)
    assert RunningSet.build(mounted(taken, files), "default-1").listeners["public"].contexts["accept"]


def test_tls_without_any_certificate_refuses_the_set() -> None:
    taken = snapshot(listeners=[listener(25, policies=[policy(tls_mode="Required")])])
    assert "there is no certificate" in refusal(taken, Files())


def test_ciphers_that_nobody_knows_refuse_the_set() -> None:
    files = Files()
    certificate = files.certificate(Authority().issue("mx.letterlock.example"))
    offered = [policy(tls_mode="Preferred", ciphers="NO-SUCH")]
    taken = snapshot(files, listeners=[listener(25, certificates=[certificate], policies=offered)])
    assert "NO-SUCH" in refusal(taken, files)
    taken = snapshot(destinations=[destination(resource="partners", ciphers="NO-SUCH")])
    assert "destination partners" in refusal(taken, Files())


def test_a_ca_list_that_cannot_be_read_refuses_the_set() -> None:
    files = Files()
    broken = files.trust(b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
    assert "CA list ours" in refusal(snapshot(files, trust={"ours": broken}), files)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("a.example", "exact"),
        ("b.a.example", "below"),
        ("c.b.a.example", "below"),
        ("deep.far.below.b.a.example", "far"),
        ("xa.example", "default"),
        ("example", "default"),
    ],
)
def test_the_most_specific_destination_wins(domain: str, expected: str) -> None:
    taken = snapshot(
        destinations=[
            destination(resource="default"),
            destination("a.example", resource="exact"),
            destination(".a.example", resource="below"),
            destination(".below.b.a.example", resource="far"),
        ]
    )
    assert build(taken, Files()).destination_for(domain).resource == expected


def test_a_domain_always_has_a_destination() -> None:
    assert build(snapshot(destinations=[]), Files()).destination_for("a.example").domains == ["*"]


def test_trust_is_of_the_global_lists_or_of_those_that_are_named() -> None:
    files = Files()
    ours, theirs = Authority(), Authority()
    lists = {"ours": files.trust(ours.pem), "theirs": files.trust(theirs.pem, is_global=False)}
    running = build(snapshot(files, trust=lists), files)

    def trusted(names: list[str] | None) -> int:
        return len(running.trust_for(names).authorities)

    assert (trusted(None), trusted(["ours", "theirs"]), trusted(["disabled"]), trusted([])) == (1, 2, 0, 0)


def test_the_host_name_is_filled_in_per_member() -> None:
    running = build(snapshot(hostname="mx{ordinal}.letterlock.example"), Files())
    assert running.hostname == "mx0.letterlock.example"


def test_uses_of_the_demo_certificate_are_named(tmp_path: Path) -> None:
    files = Files()
    demo = files.certificate(Authority().issue("demo.letterlock.example"), "", demo=True)
    offered = [policy(tls_mode="Preferred")]
    taken = snapshot(
        files,
        listeners=[
            listener(25, certificates=[demo], policies=offered),
            listener(26, "clear", certificates=[demo]),
        ],
        delivery=SnapshotDelivery(certificate=demo),
    )
    assert build(taken, files).demo_uses() == ["listener public", "outgoing mail"]
