"""What members mount ends at 1 MiB an object: what has no place is `TooLarge`, and nothing else stops for it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letterlock_operator import names
from letterlock_operator.decide import decide, fitting, in_place, room
from letterlock_operator.plan import Plan
from letterlock_operator.world import Keep, World
from tests.decide.authority import intermediate
from tests.decide.builders import (
    NOW,
    ca_list,
    certificate,
    certificate_status,
    condition,
    destination,
    gateway,
    issued,
    listener,
    lived,
    verdict,
    world,
)
from tests.harness.issued import Issued

TLS: dict[str, Any] = {"defaultPolicy": {"tls": {"mode": "Preferred"}}}
OWNER = "MailGateway/default"


def roots(count: int, name: str) -> str:
    return "".join(Issued.make(f"{name} {n}", ca=True, signs=True, now=NOW).text for n in range(count))


def mounted(plan: Plan) -> dict[str, dict[str, Keep]]:
    """What the plan mounts, as the objects that it lies in."""
    mount = plan.mounts["default"]
    secrets: dict[str, dict[str, bytes]] = {}
    maps: dict[str, dict[str, bytes]] = {}
    for file, content in mount.tls_files.items():
        secrets.setdefault(names.key_shard("default", mount.shards[file]), {})[file] = content
    for file, content in mount.ca_files.items():
        maps.setdefault(names.ca_shard("default", mount.shards[file]), {})[file] = content
    for shards in (secrets, maps):
        for name, data in shards.items():
            assert sum(map(len, data.values())) <= room.SHARD, f"{name} would be too large"
    maps[names.snapshot_config_map("default")] = {"snapshot.json": mount.snapshot.encode()}
    return {
        "secrets": {name: Keep(name, data, ours=True, owner=OWNER) for name, data in secrets.items()},
        "config_maps": {name: Keep(name, data, ours=True, owner=OWNER) for name, data in maps.items()},
    }


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of two kilobytes: a CA list of three certificates fits, one of six does not."""
    monkeypatch.setattr(room, "SHARD", 2000)


def test_a_list_that_has_no_room_is_said_and_the_others_go_on():
    lists = [ca_list(f"list-{n}", certificates=roots(3, str(n)), scope="Global") for n in range(6)]
    plan = decide(world(gateway(), *lists), NOW)
    ready = {n: verdict(plan, "CAList", f"list-{n}", "Ready") for n in range(6)}
    assert sorted(ready.values()) == [("False", "TooLarge")] * 2 + [("True", "Ready")] * 4
    assert [n for n in ready if ready[n][1] == "TooLarge"] == [4, 5], "the older stay: here, by name"
    assert "second MailGateway" in condition(plan, "CAList", "list-5", "Ready").message
    assert verdict(plan, "CAList", "list-5", "Programmed") == ("False", "TooLarge")
    assert verdict(plan, "MailGateway", "default", "Accepted") == ("True", "Accepted")
    assert sorted(plan.mounts["default"].snapshot.trust) == [f"list-{n}" for n in range(4)]
    place = mounted(plan)
    # What is in place stays there, and before any that comes later, whatever its name.
    again = decide(world(gateway(), *lists, **place), NOW)
    assert mounted(again) == place
    first = ca_list("a-first-name", certificates=roots(3, "new"))
    plan = decide(world(gateway(), first, *lists, **place), NOW)
    assert verdict(plan, "CAList", "a-first-name", "Ready") == ("False", "TooLarge")
    assert plan.mounts["default"].ca_files == again.mounts["default"].ca_files
    # One is switched off: there is room for the next.
    off = [*lists[1:], ca_list("list-0", certificates=lists[0].spec.certificates, enabled=False)]
    plan = decide(world(gateway(), *off, **place), NOW)
    assert verdict(plan, "CAList", "list-4", "Ready") == ("True", "Ready")
    assert verdict(plan, "CAList", "list-5", "Ready") == ("False", "TooLarge")


def test_a_list_that_has_grown_too_large_stays_as_it_was():
    small_one = roots(3, "a")
    before = decide(world(gateway(), ca_list("own", certificates=small_one)), NOW)
    grown = ca_list("own", certificates=small_one + roots(3, "b"))
    plan = decide(world(gateway(), grown, **mounted(before)), NOW)
    assert verdict(plan, "CAList", "own", "Ready") == ("False", "TooLarge")
    said = condition(plan, "CAList", "own", "Ready").message
    assert "more than members can mount" in said
    assert "the earlier list (3 certificates) stays in force" in said
    assert plan.mounts["default"].ca_files == before.mounts["default"].ca_files


def _served(count: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], dict[str, Keep]]:
    """Listeners with so many certificates, which are made, and room for two keys a Secret."""
    monkeypatch.setattr(room, "SHARD", 2600)
    made = [certificate(f"mx{n:02}", age=count - n) for n in range(count)]
    refs = [{"name": one.name} for one in made]
    heard = [
        listener(f"l{n:02}", port=2525 + n, certificateRefs=refs[n : n + 16], **TLS)
        for n in range(0, count, 16)
    ]
    parts = [gateway(), *made, *heard]
    return parts, issued(decide(world(*parts), NOW))


def test_certificates_without_room_are_said_and_the_older_ones_are_served(monkeypatch: pytest.MonkeyPatch):
    fitting_in = 2 * names.KEY_SHARDS
    parts, secrets = _served(fitting_in + 3, monkeypatch)
    plan = decide(world(*parts, secrets=secrets), NOW)
    reasons = {n: verdict(plan, "Certificate", f"mx{n:02}", "Ready") for n in range(fitting_in + 3)}
    assert [n for n, one in reasons.items() if one == ("False", "TooLarge")] == [32, 33, 34]
    # What is known of such a certificate is shown all the same.
    assert plan.statuses["Certificate", "mx34"].model_dump()["fingerprint"]
    opened = plan.mounts["default"].snapshot.listeners
    served = [one.name for found in opened for one in found.certificates]
    assert served == [f"mx{n:02}" for n in range(fitting_in)]
    assert verdict(plan, "Listener", "l32", "ResolvedRefs") == ("False", "CertificateNotReady")
    assert verdict(plan, "Listener", "l16", "ResolvedRefs") == ("True", "ResolvedRefs")
    place = mounted(plan)
    again = decide(
        world(*parts, secrets={**secrets, **place["secrets"]}, config_maps=place["config_maps"]), NOW
    )
    assert again.mounts == plan.mounts


def test_a_renewed_certificate_without_room_is_served_as_it_was(monkeypatch: pytest.MonkeyPatch):
    parts, secrets = _served(1, monkeypatch)
    before = decide(world(*parts, secrets=secrets), NOW)
    place = mounted(before)
    key = secrets["letterlock-cert-mx00"]
    long = Issued.make("mx00.example.com", names=["x" * 60 + f"{n}.example.com" for n in range(30)], now=NOW)
    grown = Keep(
        key.name, {**key.data, "tls.key": long.key_pem, "tls.crt": long.pem}, ours=True, owner=key.owner
    )
    there = {**place["secrets"], key.name: grown}
    monkeypatch.setattr(room, "SHARD", 2000)
    plan = decide(world(*parts, secrets=there, config_maps=place["config_maps"]), NOW)
    assert verdict(plan, "Certificate", "mx00", "Ready") == ("False", "TooLarge")
    assert plan.mounts["default"].tls_files == before.mounts["default"].tls_files


def test_an_upload_that_is_larger_than_any_object_is_refused_before_it_is_kept(
    monkeypatch: pytest.MonkeyPatch,
):
    secrets, _ = lived(gateway(), certificate())
    request = certificate_status(decide(world(gateway(), certificate(), secrets=secrets), NOW)).request or ""
    signed = [{"certificate": intermediate().sign(request), "intermediates": intermediate().pem}]
    monkeypatch.setattr(room, "SHARD", 1000)
    after, plan = lived(gateway(), certificate(signed=signed), secrets=secrets)
    assert verdict(plan, "Certificate", "mx", "Ready") == ("False", "TooLarge")
    assert "the present certificate stays in use" in condition(plan, "Certificate", "mx", "Ready").message
    assert after == secrets


def test_credentials_without_room_hold_the_mail_back(monkeypatch: pytest.MonkeyPatch):
    from letterlock_operator import issuing

    monkeypatch.setattr(room, "SHARD", 10)
    routes = [{"host": "smart.example", "auth": {"secretRef": {"name": "login"}}}]
    control = destination("smart", "a.example", tls={"mode": "RequiredVerify"}, routes=routes)
    internal = names.internal_secret("default")
    secrets = {
        "login": Keep("login", {"username": b"me", "password": b"secret"}),
        internal: Keep(internal, issuing.issue_internal("default", NOW), ours=True, owner=OWNER),
    }
    plan = decide(world(gateway(), control, secrets=secrets), NOW)
    assert verdict(plan, "DestinationControl", "smart", "Accepted") == ("False", "TooLarge")
    assert "held back" in condition(plan, "DestinationControl", "smart", "Accepted").message
    (entry,) = [one for one in plan.mounts["default"].snapshot.destinations if one.resource == "smart"]
    assert (entry.restricts_ca_lists, entry.ca_lists) == (True, []), "verified against nobody: held"


def test_a_configuration_that_is_too_large_as_a_whole_is_said_of_the_gateway(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fitting, "MAX_SNAPSHOT", 1000)
    plan = decide(world(gateway(), destination("many", *(f"d{n}.example" for n in range(200)))), NOW)
    assert verdict(plan, "MailGateway", "default", "Accepted") == ("False", "TooLarge")
    assert "default" not in plan.mounts, "what is mounted stays"


sizes = st.dictionaries(
    st.integers(0, 999).map(lambda n: f"ca-{n:032x}.pem"), st.integers(1, 900), min_size=1, max_size=25
)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes)
def test_files_stay_where_they_lie_and_no_shard_is_overfull(first: dict[str, int], second: dict[str, int]):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(room, "SHARD", 2000)
        empty = World("default")
        before = room.place(empty, "default", first)
        maps = {
            names.ca_shard("default", n): Keep(
                names.ca_shard("default", n),
                {file: b"" for file, shard in before.shards.items() if shard == n},
                ours=True,
            )
            for n in range(names.CA_SHARDS)
        }
        both = {**second, **{file: first[file] for file in first if file in second}}
        after = room.place(World("default", config_maps=maps), "default", both)
        for placed, of in ((before, first), (after, both)):
            assert placed.shards.keys() | placed.left == of.keys()
            for n in range(names.CA_SHARDS):
                load = sum(of[file] for file, shard in placed.shards.items() if shard == n)
                assert load <= room.SHARD
        stayed = before.shards.keys() & both.keys()
        assert {file: after.shards[file] for file in stayed} == {file: before.shards[file] for file in stayed}


def test_a_configuration_that_is_too_large_as_text_is_packed_and_read_again_as_it_was():
    parts = [
        gateway(),
        *(destination(f"partner-{n}", *(f"d{m}.p{n}.example" for m in range(250))) for n in range(300)),
    ]
    plan = decide(world(*parts), NOW)
    mount = plan.mounts["default"]
    assert len(mount.encoded) > fitting.MAX_SNAPSHOT > len(mount.packed)
    name = names.snapshot_config_map("default")
    maps = {name: Keep(name, {"snapshot.json": mount.packed}, ours=True, owner=OWNER)}
    assert in_place.previous(world(*parts, config_maps=maps), "default") == mount.snapshot
