"""Decisions about CA lists: what counts, what is left out and named, and when a list is refused."""

import base64
import textwrap
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import certifi
import pytest
import trustme
from cryptography import x509

from letterlock_operator.decide import decide, imports
from letterlock_operator.plan import Plan
from letterlock_operator.world import InvalidResource, Keep, Unreadable
from tests.decide.builders import (
    NOW,
    authority,
    ca_list,
    ca_pem,
    certificate,
    condition,
    gateway,
    settled,
    verdict,
    world,
)
from tests.harness.issued import Issued


def leaf_pem() -> str:
    return authority().issue_cert("leaf.example").cert_chain_pems[0].bytes().decode()


def test_the_system_list_holds_mozillas_roots():
    from pathlib import Path

    roots = Path(certifi.where()).read_bytes()
    plan = decide(world(gateway(), ca_list("system", type="System"), system_roots=roots), NOW)
    status = plan.statuses["CAList", "system"].model_dump()
    assert status["count"] > 100
    assert verdict(plan, "CAList", "system", "Ready") == ("True", "Ready")


def test_only_the_list_named_system_may_be_of_that_type():
    plan = decide(world(gateway(), ca_list("other", type="System")), NOW)
    assert verdict(plan, "CAList", "other", "Accepted") == ("False", "Invalid")


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        pytest.param(ca_pem() + ca_pem(), ["duplicate"], id="a duplicate"),
        pytest.param(
            ca_pem() + leaf_pem(),
            ["not a CA: an end-entity certificate counts only if it is self-signed"],
            id="somebody's end-entity certificate",
        ),
        pytest.param(
            ca_pem() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ["block 2 is not a certificate"],
            id="rubbish",
        ),
        pytest.param("a heading\n====\n" + ca_pem(), [], id="headings are for people"),
    ],
)
def test_what_is_wrong_is_left_out_and_named(text: str, reasons: list[str]):
    plan = decide(world(gateway(), ca_list("own", certificates=text)), NOW)
    status = plan.statuses["CAList", "own"].model_dump()
    assert [one["reason"] for one in status["rejected"]] == reasons
    assert status["count"] == 1
    assert verdict(plan, "CAList", "own", "Ready") == ("True", "Ready")


def test_a_list_with_nothing_usable_is_refused():
    plan = decide(world(gateway(), ca_list("own", certificates=leaf_pem())), NOW)
    assert verdict(plan, "CAList", "own", "Ready") == ("False", "Empty")
    assert plan.mounts["default"].snapshot.trust == {}


def test_a_list_that_is_switched_off_trusts_nobody():
    plan = decide(world(gateway(), ca_list("own", certificates=ca_pem(), enabled=False)), NOW)
    assert verdict(plan, "CAList", "own", "Ready") == ("True", "Disabled")
    assert plan.mounts["default"].snapshot.trust == {}


def test_a_self_signed_certificate_made_here_is_pinned_from_its_secret():
    source = {"secretKeyRef": {"name": "letterlock-cert-mx", "key": "tls.crt"}}
    _, plan = settled(gateway(), certificate(), ca_list("pinned", certificatesFrom=source))
    status = plan.statuses["CAList", "pinned"].model_dump()
    assert (status["count"], status["pinned"]) == (1, 1)


@pytest.mark.parametrize(
    "keeps",
    [
        pytest.param({}, id="no ConfigMap"),
        pytest.param({"cas": Keep("cas", {"other": b""})}, id="no such key"),
    ],
)
def test_a_missing_source_is_named(keeps: dict[str, Keep]):
    source = {"configMapKeyRef": {"name": "cas", "key": "ca.pem"}}
    plan = decide(world(gateway(), ca_list("own", certificatesFrom=source), config_maps=keeps), NOW)
    assert verdict(plan, "CAList", "own", "Ready") == ("False", "SourceNotFound")


def test_another_gateways_list_does_not_count_here():
    own = ca_list("own", certificates=ca_pem(), gatewayRef={"name": "other"})
    plan = decide(world(gateway(), gateway("other"), own), NOW)
    assert plan.mounts["default"].snapshot.trust == {}
    assert list(plan.mounts["other"].snapshot.trust) == ["own"]


def test_an_expired_ca_is_left_out_from_that_moment_on():
    old = Issued.make("old", ca=True, days=(-10, 10), now=NOW)
    own = ca_list("own", certificates=old.text + ca_pem())
    end = NOW + timedelta(days=10)
    before = decide(world(gateway(), own), end - timedelta(seconds=1))
    assert before.statuses["CAList", "own"].model_dump()["rejected"] == []
    assert before.wake == end
    after = decide(world(gateway(), own), end)
    (left_out,) = after.statuses["CAList", "own"].model_dump()["rejected"]
    assert left_out["reason"] == f"expired on {end:%Y-%m-%d}"
    assert left_out["subject"] == "CN=old"


def reasons(plan: Plan, name: str = "own") -> list[str]:
    return [one["reason"] for one in plan.statuses["CAList", name].model_dump()["rejected"]]


ROOT = Issued.make("root", ca=True, now=NOW, days=(-10, 1000))
BETWEEN = Issued.make("between", ROOT, ca=True, now=NOW, days=(-10, 1000))
BELOW = Issued.make("below", BETWEEN, ca=True, now=NOW, days=(-10, 1000))


@pytest.mark.parametrize(
    ("others", "missing"),
    [
        pytest.param([], True, id="nowhere"),
        pytest.param([ca_list("other", certificates=ROOT.text)], False, id="in another list"),
        pytest.param(
            [ca_list("other", certificates=ROOT.text, enabled=False)], True, id="in one that is off"
        ),
        pytest.param(
            [ca_list("other", certificates=ROOT.text, gatewayRef={"name": "b"})],
            True,
            id="in another gateway's",
        ),
        pytest.param(
            [ca_list("other", certificates=ROOT.text, scope="Referenced")], False, id="in a referenced one"
        ),
    ],
)
def test_an_intermediate_needs_its_root_in_an_enabled_list(others: list[Any], missing: bool):
    own = ca_list("own", certificates=BELOW.text + ca_pem() + BETWEEN.text)
    plan = decide(world(gateway(), gateway("b"), own, *others), NOW)
    assert [one.partition(":")[0] for one in reasons(plan)] == (
        ["an intermediate whose root is missing"] * 2 if missing else []
    )
    if missing:
        assert "CN=between" in reasons(plan)[0]
        assert "CN=root" in reasons(plan)[1]


def test_an_intermediate_loses_its_root_when_that_expires():
    root = Issued.make("root", ca=True, now=NOW, days=(-10, 5))
    own = ca_list("own", certificates=root.text + Issued.make("b", root, ca=True, now=NOW).text + ca_pem())
    assert reasons(decide(world(gateway(), own), NOW)) == []
    after = reasons(decide(world(gateway(), own), NOW + timedelta(days=6)))
    assert [one[:7] for one in after] == ["expired", "an inte"]


@pytest.mark.parametrize(
    ("made", "role"),
    [
        pytest.param(Issued.make("x", now=NOW), "pinned", id="no basic constraints"),
        pytest.param(Issued.make("x", ca=False, now=NOW), "pinned", id="CA:FALSE"),
        pytest.param(
            Issued.make("x", ca=True, names=["mx.example"], now=NOW), "pinned", id="CA:TRUE and a host's name"
        ),
        pytest.param(
            Issued.make("x", ca=True, signs=False, now=NOW), "pinned", id="CA:TRUE that may not sign"
        ),
        pytest.param(Issued.make("x", ca=True, now=NOW), "root", id="CA:TRUE alone"),
        pytest.param(
            Issued.make("x", ca=True, signs=True, names=["ca.example"], now=NOW),
            "root",
            id="says that it signs",
        ),
    ],
)
def test_what_a_self_signed_certificate_counts_as(made: Issued, role: str):
    status = decide(world(gateway(), ca_list("own", certificates=made.text)), NOW).statuses["CAList", "own"]
    shown = status.model_dump()
    assert (shown["count"], shown["pinned"]) == (1, 1 if role == "pinned" else 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            "-----BEGIN CERTIFICATE-----\nMIIB\n", "block 1 is not a certificate: its END", id="cut off"
        ),
        pytest.param(
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "block 1 is no certificate but private key",
            id="a key",
        ),
        pytest.param(
            Issued.make("x", ROOT, ca=True).text.replace("M", "N", 3), "block 1 is not", id="damaged"
        ),
        pytest.param(
            Issued.make(
                "x", ca=True, more=[x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"?")]
            ).text,
            "block 1 is not a certificate",
            id="a broken extension",
        ),
        pytest.param(
            Issued.make("root", ROOT, ca=True, now=NOW).text,
            "not a root",
            id="its own name, another's signature",
        ),
    ],
)
def test_what_is_no_certificate_is_named_and_takes_nothing_with_it(text: str, reason: str):
    keeps = {"cas": Keep("cas", {"ca.pem": (text + ca_pem()).encode()})}
    plan = decide(world(gateway(), ca_list("own", certificatesFrom=FROM), config_maps=keeps), NOW)
    (said,) = reasons(plan)
    assert said.startswith(reason)
    assert plan.statuses["CAList", "own"].model_dump()["count"] == 1


def _trusted(pem: str) -> str:
    """As `openssl x509 -trustout` writes it: with settings of its own behind the certificate."""
    body = "".join(pem.strip().splitlines()[1:-1])
    longer = base64.b64encode(base64.b64decode(body) + b"\x30\x00").decode()
    return f"-----BEGIN TRUSTED CERTIFICATE-----\n{longer}\n-----END TRUSTED CERTIFICATE-----\n"


WRITTEN: dict[str, Callable[[str, str], str]] = {
    "the first without a line end": lambda one, two: one.strip() + two,
    "with a blank between them": lambda one, two: one.strip() + " \t" + two,
    "with Windows' mark and line ends": lambda one, two: "\ufeff" + (one + two).replace("\n", "\r\n"),
    "indented, with hard spaces": lambda one, two: textwrap.indent(one + two, "  ").replace("\n", "\u00a0\n"),
    "as openssl writes trusted ones": lambda one, two: _trusted(one) + two,
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
def test_however_it_is_written_a_list_holds_the_same(written: Callable[[str, str], str]):
    one, two = (Issued.make(name, ca=True, now=NOW).text for name in ("one", "two"))
    found = imports.usable(imports.read(written(one, two).encode()), (), NOW)
    assert found.rejected == ()
    assert {one.subject for one in found.entries} == {"CN=one", "CN=two"}


def in_place(plan: Plan, *names: str) -> dict[str, Keep]:
    """What the plan mounts, as ConfigMaps."""
    found: dict[str, Keep] = {}
    for name in names or ("default",):
        mount, owner = plan.mounts[name], f"MailGateway/{name}"
        shard = f"{name}-ca-0"
        found[shard] = Keep(shard, dict(mount.ca_files), ours=True, owner=owner)
        found[f"{name}-snapshot"] = Keep(
            f"{name}-snapshot", {"snapshot.json": mount.snapshot.encode()}, ours=True, owner=owner
        )
    return found


FROM = {"configMapKeyRef": {"name": "cas", "key": "ca.pem"}}


@pytest.mark.parametrize(
    ("keeps", "status", "reason"),
    [
        pytest.param({"cas": Keep("cas", {"ca.pem": b"nothing"})}, "False", "Empty", id="holds nothing"),
        pytest.param(
            {"cas": Keep("cas", {"ca.pem": leaf_pem().encode()})}, "False", "Empty", id="nothing usable"
        ),
        pytest.param({"cas": Keep("cas", {})}, "False", "SourceNotFound", id="the key has gone"),
        pytest.param({}, "False", "SourceNotFound", id="the ConfigMap has gone"),
        pytest.param({"cas": Unreadable("not allowed")}, "Unknown", "Pending", id="cannot be read"),
    ],
)
def test_the_earlier_list_stays_in_force(keeps: dict[str, Any], status: str, reason: str):
    own = ca_list("own", certificatesFrom=FROM)
    good = {"cas": Keep("cas", {"ca.pem": ca_pem().encode()})}
    before = decide(world(gateway(), own, config_maps=good), NOW)
    trusted = before.mounts["default"].snapshot.trust
    assert list(trusted) == ["own", "system"] or list(trusted) == ["own"]
    for _ in range(3):  # for as long as it takes
        maps = {**in_place(before), **keeps}
        before = decide(world(gateway(), own, config_maps=maps), NOW)
        mount = before.mounts["default"]
        assert mount.snapshot.trust["own"] == trusted["own"]
        assert mount.ca_files[trusted["own"].file] == ca_pem().encode()
        assert verdict(before, "CAList", "own", "Ready") == (status, reason)
        said = condition(before, "CAList", "own", "Ready").message
        assert said.endswith("the earlier list (1 certificate) stays in force")
        assert verdict(before, "CAList", "own", "Programmed")[0] == "False"
        assert before.statuses["CAList", "own"].model_dump()["count"] == 1
    healed = decide(world(gateway(), own, config_maps={**in_place(before), **good}), NOW)
    assert verdict(healed, "CAList", "own", "Ready") == ("True", "Ready")


def test_an_earlier_list_serves_whom_the_list_serves_and_not_while_it_is_off():
    bad = {"certificates": leaf_pem()}
    good = decide(world(gateway(), gateway("b"), ca_list("own", certificates=ca_pem())), NOW)
    maps = in_place(good, "default", "b")
    narrowed = ca_list("own", gatewayRef={"name": "b"}, scope="Referenced", **bad)
    plan = decide(world(gateway(), gateway("b"), narrowed, config_maps=maps), NOW)
    assert "own" not in plan.mounts["default"].snapshot.trust
    assert not plan.mounts["b"].snapshot.trust["own"].is_global
    off = decide(world(gateway(), ca_list("own", enabled=False, **bad), config_maps=maps), NOW)
    assert "own" not in off.mounts["default"].snapshot.trust


def test_a_list_whose_manifest_became_invalid_stays_in_force():
    good = decide(world(gateway(), ca_list("own", certificates=ca_pem())), NOW)
    invalid = (InvalidResource("CAList", "own", 4, "spec.scope: is wrong"),)
    plan = decide(world(gateway(), config_maps=in_place(good), invalid=invalid), NOW)
    trust = plan.mounts["default"].snapshot.trust
    assert trust["own"] == good.mounts["default"].snapshot.trust["own"]
    assert verdict(plan, "CAList", "own", "Accepted") == ("False", "Invalid")


def test_a_list_that_is_too_large_is_refused():
    many = b"".join(trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.bytes() for _ in range(3))
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"x" * 400_000)
    large = Issued.make("large", ca=True, more=[padding], now=NOW).text
    keeps = {"cas": Keep("cas", {"ca.pem": many + large.encode()})}
    plan = decide(world(gateway(), ca_list("own", certificatesFrom=FROM), config_maps=keeps), NOW)
    assert verdict(plan, "CAList", "own", "Ready") == ("False", "TooLarge")


ROOTS = ca_pem().encode()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_deleted_system_list_comes_back_as_it_was(enabled: bool):
    system = ca_list("system", type="System", enabled=enabled)
    before = decide(world(gateway(), system, system_roots=ROOTS), NOW)
    for _ in range(2):
        plan = decide(world(gateway(), config_maps=in_place(before), system_roots=ROOTS), NOW)
        (back,) = plan.ensures
        assert (back.kind, back.name) == ("CAList", "system")
        assert back.spec.get("enabled", True) is enabled
        # Not for a moment does the deletion change whom members trust.
        assert plan.mounts["default"].snapshot.trust == before.mounts["default"].snapshot.trust
        assert ("CAList", "system") not in plan.statuses
        before = plan


def test_the_system_list_of_a_new_gateway_is_on_from_its_first_snapshot():
    plan = decide(world(gateway(), system_roots=ROOTS), NOW)
    assert dict(plan.ensures[0].spec) == {"type": "System"}
    assert list(plan.mounts["default"].snapshot.trust) == ["system"]


STEPS = (90, 60, 30, 15, 5, 1)


def test_a_ca_that_ends_is_said_at_each_step_and_the_plan_wakes_for_it():
    end = NOW + timedelta(days=200)
    own = ca_list("own", certificates=Issued.make("old", ca=True, days=(-1, 200), now=NOW).text + ca_pem())
    now, said = NOW, list[str]()
    for step in STEPS:
        plan = decide(world(gateway(), own), now)
        assert plan.wake == end - timedelta(days=step)
        now = end - timedelta(days=step)
        own = own.model_copy(update={"status": plan.statuses["CAList", "own"]})
        after = decide(world(gateway(), own), now)
        assert verdict(after, "CAList", "own", "ExpiringSoon") == ("True", "ExpiringSoon")
        events = [one for one in after.events if one.name == "own" and one.reason == "ExpiringSoon"]
        assert [one.type for one in events] == ["Warning"]
        said += [one.message for one in events]
        own = own.model_copy(update={"status": after.statuses["CAList", "own"]})
        again = decide(world(gateway(), own), now + timedelta(hours=7))
        assert [one for one in again.events if one.name == "own"] == []
    assert [one.partition(":")[0] for one in said] == [
        f"CAs that end within {days} day{'s' if days > 1 else ''}" for days in STEPS
    ]
    assert all(f"CN=old ({end:%Y-%m-%d})" in one for one in said)
    gone = decide(world(gateway(), own), end)
    assert [one.type for one in gone.statuses["CAList", "own"].conditions if one.type == "ExpiringSoon"] == []


def test_many_cas_that_end_fit_into_one_message():
    cas = [Issued.make(f"{'long ' * 12}{n}", ca=True, days=(-1, n + 1), now=NOW) for n in range(89)]
    plan = decide(world(gateway(), ca_list("own", certificates="".join(one.text for one in cas))), NOW)
    message = condition(plan, "CAList", "own", "ExpiringSoon").message
    assert message.endswith("are not trusted after that")
    assert "and 27 more" in message


def test_a_list_that_is_off_does_not_warn():
    old = Issued.make("old", ca=True, now=NOW).text
    plan = decide(world(gateway(), ca_list("own", certificates=old, enabled=False)), NOW)
    assert "ExpiringSoon" not in [one.type for one in plan.statuses["CAList", "own"].conditions]
