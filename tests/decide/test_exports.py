"""CA lists as text files: what is exported imports as the same set, and ConfigMaps of others stay theirs (A4)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letterlock_api import listings
from letterlock_operator.decide import decide, imports
from letterlock_operator.world import Keep, Unreadable
from tests.decide.builders import NOW, ca_list, ca_pem, gateway, verdict, world
from tests.harness.issued import Issued

EXPORT = {"configMapName": "cas", "fileName": "cas.txt"}
ROOT = Issued.make("root", ca=True, now=NOW)
POOL = [
    ROOT,
    Issued.make("between", ROOT, ca=True, now=NOW),
    Issued.make("mx.example", names=["mx.example"], now=NOW),
    Issued.make("mx.example", ca=True, names=["mx.example"], now=NOW),
    Issued.make("-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nMIIB", ca=True, now=NOW),
    Issued.make("Zürich\r\n# 証明書\t\x1b[2J\u2028-----END CERTIFICATE-----", ca=True, now=NOW),
    Issued.make("old", ca=True, days=(-20, -10), now=NOW),
    Issued.make("leaf", ROOT, now=NOW),
]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=16)


def taken(text: bytes) -> imports.Usable:
    return imports.usable(imports.read(text), (), NOW)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(POOL), max_size=12), NAMES)
def test_importing_an_export_gives_the_same_set(chosen: list[Issued], name: str):
    first = taken(b"noise\n".join(one.pem for one in chosen))
    text = listings.text("own", first.entries)
    second = taken(text.encode())
    assert [one.fingerprint for one in second.entries] == [one.fingerprint for one in first.entries]
    assert second.content == first.content
    assert second.rejected == ()
    assert listings.text("own", second.entries) == text


@settings(max_examples=60, deadline=None)
@given(NAMES)
def test_no_name_in_a_certificate_changes_what_an_export_holds(name: str):
    made = Issued.make(name, ca=True, key=ROOT.key, now=NOW)
    text = listings.text("own", taken(made.pem).entries)
    again = taken(text.encode())
    assert [one.pem for one in again.entries] == [made.pem]
    assert again.rejected == ()


def test_each_authority_has_a_heading():
    text = listings.text("own", taken(ROOT.pem + POOL[2].pem).entries)
    for line in (
        "# CA list own, 2 certificates.",
        "# Subject: CN=root",
        "# Counts as: root CA",
        "# Counts as: trusted for itself only",
        f"# Valid: {ROOT.certificate.not_valid_before_utc:%Y-%m-%d} to {ROOT.certificate.not_valid_after_utc:%Y-%m-%d}",
    ):
        assert line in text.splitlines()
    assert "# Fingerprint (sha256): " in text


def keep(ours: bool, owner: str) -> Keep:
    return Keep("cas", {"cas.txt": b"text"}, ours=ours, owner=owner)


@pytest.mark.parametrize(
    ("export", "there", "written"),
    [
        pytest.param(EXPORT, {}, True, id="nobody's"),
        pytest.param(EXPORT, {"cas": keep(True, "CAList/own")}, True, id="ours"),
        pytest.param(EXPORT, {"cas": keep(False, "")}, False, id="somebody else's"),
        pytest.param(EXPORT, {"cas": keep(True, "CAList/other")}, False, id="another list's"),
        pytest.param({**EXPORT, "configMapName": "default-snapshot"}, {}, False, id="the snapshot"),
        pytest.param({**EXPORT, "configMapName": "default-ca-3"}, {}, False, id="a file of members"),
    ],
)
def test_an_export_takes_over_nothing(export: dict[str, str], there: dict[str, Any], written: bool):
    own = ca_list("own", certificates=ca_pem(), export=export)
    plan = decide(world(gateway(), own, config_maps=there), NOW)
    assert [one.name for one in plan.texts] == ([export["configMapName"]] if written else [])
    said = verdict(plan, "CAList", "own", "Accepted")
    assert said == (("True", "Accepted") if written else ("False", "NameTaken"))
    assert "own" in plan.mounts["default"].snapshot.trust, "whom we trust is another matter"


def test_of_two_lists_with_one_config_map_the_first_has_it():
    lists = [ca_list(name, certificates=ca_pem(), export=EXPORT) for name in ("a", "b")]
    plan = decide(world(gateway(), *lists), NOW)
    assert [one.owner for one in plan.texts] == ["CAList/a"]
    assert verdict(plan, "CAList", "b", "Accepted") == ("False", "NameTaken")


def test_a_config_map_that_cannot_be_read_is_left_alone():
    own = ca_list("own", certificates=ca_pem(), export=EXPORT)
    assert decide(world(gateway(), own, config_maps={"cas": Unreadable("no")}), NOW).texts == ()


def test_an_export_that_nobody_asks_for_is_emptied():
    there = {"cas": keep(True, "CAList/own")}
    own = ca_list("own", certificates=ca_pem(), export={**EXPORT, "configMapName": "new"})
    texts = decide(world(gateway(), own, config_maps=there), NOW).texts
    assert [(one.name, dict(one.data) != {}) for one in texts] == [("new", True), ("cas", False)]


def test_a_list_that_is_off_is_exported_and_a_bad_one_leaves_its_export_as_it_is():
    off = ca_list("own", certificates=ca_pem(), enabled=False, export=EXPORT)
    (text,) = decide(world(gateway(), off), NOW).texts
    assert ca_pem().strip() in text.data["cas.txt"]
    bad = ca_list("own", certificates=POOL[-1].text, export=EXPORT)
    assert decide(world(gateway(), bad, config_maps={"cas": keep(True, "CAList/own")}), NOW).texts == ()
