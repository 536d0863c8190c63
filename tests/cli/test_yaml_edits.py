"""Edits of manifests: what people wrote around them stays, and what cannot be kept is not written."""

from typing import Any

import pytest
import yaml

from letterlock_cli import yaml_edits

PEM = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
HEAD = "apiVersion: letterlock.dev/v1alpha1\nkind: Certificate\nmetadata: {name: mx}\n"
TEXT = """\
# Our certificates.
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: mx}   # of the same name
data:
    odd:   "indented"
--- # the second
apiVersion: letterlock.dev/v1alpha1
kind: Certificate
metadata:
  name: mx  # see the wiki
spec:
  # one for all
  level: "Cluster"
  dnsNames:
    - mx.example.com   # public
    - 'mail.example.com'
  subject:
    country: "NO"
    commonName: mx.example.com
---
apiVersion: letterlock.dev/v1alpha1
kind: Listener
metadata: {name: public}
spec:
    type:   Public
    defaultPolicy: {tls: {mode: "No"}}
"""


def sign(manifest: dict[str, Any]) -> None:
    manifest["spec"]["signed"] = [{"certificate": PEM}]


def test_an_edit_adds_lines_and_touches_no_other():
    made = yaml_edits.changed(TEXT, "Certificate", "mx", sign)
    lines = made.splitlines()
    added = [
        "  signed:",
        "    - certificate: |",
        "        -----BEGIN CERTIFICATE-----",
        "        abc",
        "        -----END CERTIFICATE-----",
    ]
    at = lines.index("  signed:")
    assert lines[at : at + len(added)] == added
    assert [*lines[:at], *lines[at + len(added) :]] == TEXT.splitlines()


def test_an_edit_may_take_something_away():
    made = yaml_edits.changed(TEXT, "Certificate", "mx", lambda one: one["spec"].pop("dnsNames"))
    assert "see the wiki" in made
    assert "mail.example.com" not in made


def test_windows_line_ends_stay():
    made = yaml_edits.changed(TEXT.replace("\n", "\r\n"), "Certificate", "mx", sign)
    assert made.count("\n") == made.count("\r\n")
    assert list(yaml.safe_load_all(made))[1]["spec"]["signed"] == [{"certificate": PEM}]


def test_a_manifest_in_a_list_is_found():
    manifest = HEAD.replace("\n", "\n    ").strip()
    text = f"kind: List\nitems:\n  # first\n  - {manifest}\n    spec: {{}}\n"
    made = yaml_edits.changed(text, "Certificate", "mx", sign)
    assert "# first" in made
    assert yaml.safe_load(made)["items"][0]["spec"]["signed"] == [{"certificate": PEM}]


def test_json_stays_json():
    text = '{"apiVersion": "letterlock.dev/v1alpha1", "kind": "Certificate", "metadata": {"name": "mx"}, "spec": {}}'
    made = yaml_edits.changed(text, "Certificate", "mx", sign, is_json=True)
    assert made.startswith("{")
    assert yaml.safe_load(made)["spec"]["signed"] == [{"certificate": PEM}]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            HEAD + "spec: {days: 0o17, on: 017}\n",
            id="octal",
        ),
        pytest.param(
            HEAD + "spec: {days: 1:30}\n",
            id="sexagesimal",
        ),
        pytest.param(
            HEAD + "spec: {a: &a [1], b: *a}\n",
            id="anchors",
        ),
        pytest.param(
            HEAD + "spec:\n  x: No\n  y: yes\n",
            id="booleans",
        ),
        pytest.param(
            HEAD + "spec: {x: 2026-01-01, t: 1e3}\n",
            id="dates",
        ),
        pytest.param(
            "%YAML 1.1\n---\n" + HEAD + "spec: {}\n",
            id="a directive",
        ),
        pytest.param(
            "--- {apiVersion: letterlock.dev/v1alpha1, kind: Certificate, metadata: {name: mx}, spec: {}}\n...\n",
            id="one line",
        ),
        pytest.param(
            HEAD + "spec: {}\n# the end",
            id="no line end",
        ),
    ],
)
def test_what_comes_out_means_what_was_meant_or_nothing_comes_out(text: str):
    wanted = next(one for one in yaml.safe_load_all(text) if one)
    sign(wanted)
    try:
        made = yaml_edits.changed(text, "Certificate", "mx", sign)
    except yaml_edits.CannotEdit:
        return
    assert next(one for one in yaml.safe_load_all(made) if one) == wanted


def test_new_manifests_say_to_yaml_1_1_what_was_meant():
    manifest = {"spec": {"subject": {"country": "NO"}, "certificate": PEM, "name": "on", "days": 3}}
    made = yaml_edits.written(manifest)
    assert yaml.safe_load(made) == manifest
    assert "certificate: |\n" in made
