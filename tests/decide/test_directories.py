"""Decisions about directories: passwords lie among keys only, and a listener never listens without its query."""

import json
from typing import Any

import pytest

from letterlock_api.snapshot import RecipientQuery, SnapshotDirectory
from letterlock_operator import names
from letterlock_operator.decide import decide
from letterlock_operator.decide.keeping import INTERNAL_CA_KEY
from letterlock_operator.plan import Plan
from letterlock_operator.world import Keep
from tests.decide.builders import NOW, certificate, condition, gateway, issued, listener, verdict, world

PASSWORD = "hunter2"
PROFILE: dict[str, Any] = {
    "name": "people",
    "servers": ["ldap.example.com", "[2001:db8::1]:1636"],
    "baseDN": "dc=example",
    "bindDN": "cn=mail,dc=example",
    "bindPasswordSecretKeyRef": {"name": "ldap", "key": "password"},
}
ASKING: dict[str, Any] = {"acceptQuery": {"ldap": "people", "filter": "(mail={a})"}}


def secrets(password: bytes = PASSWORD.encode(), *, internal: bool = True) -> dict[str, Keep]:
    found = {"ldap": Keep("ldap", {"password": password})}
    if internal:
        name = names.internal_secret("default")
        found[name] = Keep(name, {INTERNAL_CA_KEY: b"a secret key"}, ours=True)
    return found


def decided(*resources: Any, profile: dict[str, Any] | None = None, **more: Any) -> Plan:
    more.setdefault("secrets", secrets())
    first = world(gateway(ldap=[profile or PROFILE]), *resources, **more)
    more["secrets"] = {**more["secrets"], **issued(decide(first, NOW))}
    return decide(world(gateway(ldap=[profile or PROFILE]), *resources, **more), NOW)


def test_a_directory_and_its_listener_reach_the_members_and_the_password_lies_among_the_keys():
    plan = decided(listener(**ASKING))
    mount = plan.mounts["default"]
    (directory,) = mount.snapshot.directories
    assert directory.bind_file is not None
    assert directory == SnapshotDirectory(
        name="people",
        servers=PROFILE["servers"],
        tls="LDAPS",
        base_dn="dc=example",
        bind_file=directory.bind_file,
    )
    assert mount.snapshot.listeners[0].query == RecipientQuery(directory="people", filter="(mail={a})")
    kept = json.loads(mount.tls_files[directory.bind_file])
    assert (kept["username"], kept["password"]) == ("cn=mail,dc=example", PASSWORD)
    assert directory.bind_file in mount.snapshot.files
    public = mount.snapshot.encode() + b"".join(mount.ca_files.values()) + repr(plan.statuses).encode()
    assert PASSWORD.encode() not in public
    assert verdict(plan, "MailGateway", "default", "Accepted") == ("True", "Accepted")
    assert verdict(plan, "Listener", "public", "Accepted") == ("True", "Accepted")


def test_nobody_can_try_passwords_against_the_file_name():
    """The name of the file is in a ConfigMap: another internal key, another name for the same password."""
    one = decided().mounts["default"].snapshot.directories[0].bind_file
    other = secrets()
    name = names.internal_secret("default")
    other[name] = Keep(name, {INTERNAL_CA_KEY: b"another key"}, ours=True)
    assert decided(secrets=other).mounts["default"].snapshot.directories[0].bind_file != one


def test_a_new_password_is_a_new_snapshot_and_the_listener_waits_for_it():
    one, two = decided(listener(**ASKING)), decided(listener(**ASKING), secrets=secrets(b"new"))
    before, after = one.mounts["default"].snapshot, two.mounts["default"].snapshot
    assert before.directories != after.directories
    for key in ("Listener/public", "MailGateway/default"):
        assert before.digests[key] != after.digests[key]


@pytest.mark.parametrize(
    ("changes", "more", "reason", "words"),
    [
        ({}, {"secrets": {}}, "SecretNotFound", "no Secret ldap with the key password: create it"),
        ({}, {"secrets": secrets(b"")}, "Invalid", "password is empty"),
        ({}, {"secrets": secrets(b"\xff")}, "Invalid", "must be UTF-8"),
        ({}, {"secrets": secrets(b"a\nb")}, "Invalid", "a line break or a NUL"),
        ({}, {"secrets": secrets(internal=False)}, "Pending", "internal CA"),
        ({"certificateRef": {"name": "gone"}}, {}, "CertificateNotFound", "Certificate gone"),
        ({"bindPasswordSecretKeyRef": None}, {}, "Invalid", "bindDN needs bindPasswordSecretKeyRef"),
    ],
)
def test_a_directory_that_cannot_be_asked_is_said_and_its_listener_is_not_opened(
    changes: dict[str, Any], more: dict[str, Any], reason: str, words: str
):
    plan = decided(listener(**ASKING), listener("other", port=2526), profile={**PROFILE, **changes}, **more)
    for kind, name in (("MailGateway", "default"), ("Listener", "public")):
        assert verdict(plan, kind, name, "Accepted") == ("False", reason)
        assert verdict(plan, kind, name, "Programmed") == ("False", reason)
        assert words in condition(plan, kind, name, "Accepted").message
    assert [one.name for one in plan.mounts["default"].snapshot.listeners] == ["other"]
    assert verdict(plan, "Listener", "other", "Accepted") == ("True", "Accepted")


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        ({"ldap": "gone", "filter": "(mail={a})"}, "DirectoryNotFound", "no gone; there is people"),
        ({"ldap": "people", "filter": "(mail={a}"}, "Invalid", "no LDAP filter"),
        ({"ldap": "people", "filter": "(mail={x})"}, "Invalid", "{x} is unknown"),
        ({"ldap": "people", "filter": "(objectClass=*)"}, "Invalid", "the same of every recipient"),
    ],
)
def test_a_query_that_cannot_be_asked_opens_no_listener(asked: dict[str, str], reason: str, words: str):
    plan = decided(listener(acceptQuery=asked))
    assert verdict(plan, "Listener", "public", "Accepted") == ("False", reason)
    assert words in condition(plan, "Listener", "public", "Accepted").message
    assert plan.mounts["default"].snapshot.listeners == []


def in_place(plan: Plan) -> dict[str, Any]:
    mount = plan.mounts["default"]
    snapshot = Keep(
        names.snapshot_config_map("default"), {"snapshot.json": mount.snapshot.encode()}, ours=True
    )
    keys = Keep(names.key_shard("default", 0), dict(mount.tls_files), ours=True)
    return {"config_maps": {snapshot.name: snapshot}, "secrets": {**secrets(), keys.name: keys}}


@pytest.mark.parametrize("gone", ["the Secret", "the profile"])
def test_the_last_good_state_keeps_asking(gone: str):
    good = decided(listener(**ASKING))
    place = in_place(good)
    profile = {**PROFILE, "name": "renamed"} if gone == "the profile" else PROFILE
    if gone == "the Secret":
        del place["secrets"]["ldap"]
    plan = decided(listener(**ASKING), profile=profile, **place)
    assert verdict(plan, "Listener", "public", "Programmed")[0] == "False"
    before, after = good.mounts["default"], plan.mounts["default"]
    assert after.snapshot.listeners == before.snapshot.listeners
    assert before.snapshot.directories[0] in after.snapshot.directories
    file = before.snapshot.directories[0].bind_file
    assert file is not None
    assert after.tls_files[file] == before.tls_files[file]


def test_our_certificate_towards_the_directory_is_mounted_and_counts_as_used():
    profile = {**PROFILE, "certificateRef": {"name": "mx"}}
    plan = decided(certificate(), profile=profile)
    (directory,) = plan.mounts["default"].snapshot.directories
    assert directory.certificate is not None
    assert directory.certificate.file in plan.mounts["default"].tls_files
    status = plan.statuses["Certificate", "mx"].model_dump()
    assert status["used_by"] == ["MailGateway/default"]


def test_an_anonymous_directory_needs_no_secret():
    bare = {key: PROFILE[key] for key in ("name", "servers", "baseDN")}
    plan = decided(listener(**ASKING), profile={**bare, "tls": "None"}, secrets={})
    assert plan.mounts["default"].snapshot.directories[0].bind_file is None
    assert verdict(plan, "Listener", "public", "Accepted")[0] == "True"
