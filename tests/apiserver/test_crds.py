"""The CRDs on a real API server: what it takes, what it refuses, what kubectl shows."""

import json
import re
from typing import Any, Final

import pytest
import yaml

from letterlock_api.crd import COLUMNS, resource_schema
from letterlock_api.kinds import KINDS
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.manifests import Manifest, ca_list, certificate, destination, gateway, listener
from tests.harness.wrong_manifests import PEM, RIGHT, WRONG, Wrong

_NOW: Final = "2026-01-01T00:00:00Z"
SAMPLES: Final = (
    gateway("default"),
    certificate(dnsNames=["mx.example.com"]),
    listener(port=2525),
    destination("a.example"),
    ca_list(certificates=PEM),
)


def condition(kind: str, status: str) -> dict[str, str]:
    """A condition as the operator writes it."""
    return {
        "type": kind,
        "status": status,
        "reason": "Tested",
        "message": "said by a test",
        "lastTransitionTime": _NOW,
    }


def write_status(kubectl: Kubectl, resource: str, **status: Any) -> None:
    """Write a status, as the operator would."""
    kubectl(
        "patch", resource, "--subresource=status", "--type=merge", "--patch", json.dumps({"status": status})
    )


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.sentence)
def test_is_refused(api_server: ApiServer, wrong: Wrong) -> None:
    said = api_server.kubectl.refusal(wrong.manifest)
    for part in wrong.says:
        assert part in said


@pytest.mark.parametrize("manifest", RIGHT.values(), ids=RIGHT.keys())
def test_is_taken(api_server: ApiServer, manifest: Manifest) -> None:
    written = yaml.safe_dump(manifest)
    assert "created" in api_server.kubectl("apply", "--dry-run=server", "--filename", "-", stdin=written)


def test_storage_never_changes(kubectl: Kubectl) -> None:
    kubectl.apply(gateway(storage={"size": "1Gi"}))
    assert "storage cannot change" in kubectl.refusal(gateway(storage={"size": "2Gi"}))
    kubectl.apply(gateway(storage={"size": "1Gi"}, replicas=2))


def test_defaults_are_filled_in(kubectl: Kubectl) -> None:
    kubectl.apply(listener(), destination("a.example", routes=[{"host": "mx.example"}]))
    spec = kubectl.json("get", "lsn", "sample")["spec"]
    assert spec["gatewayRef"] == {"name": "default"}
    assert (spec["port"], spec["maxConcurrency"], spec["tcpQueue"]) == (25, 1000, 50)
    assert "defaultPolicy" not in spec
    spec = kubectl.json("get", "destctl", "sample")["spec"]
    assert spec["routes"] == [{"host": "mx.example", "implicitTLS": False, "port": 25, "priority": 0}]
    assert spec["tls"] == {"mode": "Default"}


def test_a_size_is_a_number_or_a_quantity(kubectl: Kubectl) -> None:
    for size in (10485760, "10Mi"):
        kubectl.apply(listener(defaultPolicy={"maxMessageSize": size}))
        assert kubectl.json("get", "lsn", "sample")["spec"]["defaultPolicy"]["maxMessageSize"] == size


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_explained(api_server: ApiServer, kind: str) -> None:
    plural = f"{KINDS[kind].PLURAL}.letterlock.dev"
    schema = resource_schema(KINDS[kind])
    for part in ("spec", "status"):
        explained = api_server.kubectl("explain", f"{plural}.{part}")
        assert "<no description>" not in explained
        assert set(re.findall(r"^  (\w+)\t", explained, re.MULTILINE)) == {
            *schema["properties"][part]["properties"]
        }


def test_one_category_lists_all_kinds(kubectl: Kubectl) -> None:
    kubectl.apply(*SAMPLES)
    listed = kubectl("get", "letterlock", "--output=name").split()
    assert sorted(listed) == sorted(
        f"{kind.lower()}.letterlock.dev/{'default' if kind == 'MailGateway' else 'sample'}" for kind in KINDS
    )


@pytest.mark.parametrize("kind", KINDS)
def test_short_names_are_ours_beside_a_foreign_kind(kubectl: Kubectl, kind: str) -> None:
    kubectl.apply(*SAMPLES)
    (name,) = kubectl("get", KINDS[kind].SHORT, "--output=name").split()
    assert name.startswith(f"{kind.lower()}.letterlock.dev/")


@pytest.mark.parametrize(
    ("kind", "status", "columns"),
    [
        ("MailGateway", {"ready": "2/2", "conditions": [condition("Programmed", "True")]}, "2/2 True"),
        (
            "Certificate",
            {
                "level": "Cluster",
                "commonName": "mx.example.com",
                "issuer": "CN=mx",
                "expires": "2027-01-01T00:00:00Z",
                "conditions": [condition("Ready", "True")],
            },
            "True Cluster mx.example.com CN=mx 2027-01-01T00:00:00Z",
        ),
        (
            "Listener",
            {
                "tls": "Mixed",
                "certificate": "mx",
                "domainMapSummary": "old.example +3",
                "conditions": [condition("Programmed", "False")],
            },
            "Public 2525 Mixed mx False",
        ),
        (
            "DestinationControl",
            {
                "domainSummary": "a.example +3",
                "conditions": [condition("Programmed", "True"), condition("Delivering", "Unknown")],
            },
            "a.example +3 Default True Unknown",
        ),
        ("CAList", {"count": 3, "conditions": [condition("Ready", "True")]}, "Custom true 3 True"),
    ],
)
def test_columns(kubectl: Kubectl, kind: str, status: dict[str, Any], columns: str) -> None:
    kubectl.apply(*SAMPLES)
    name = "default" if kind == "MailGateway" else "sample"
    write_status(kubectl, f"{KINDS[kind].PLURAL}.letterlock.dev/{name}", **status)
    heading, row = kubectl("get", KINDS[kind].SHORT, name).splitlines()
    assert heading.split() == ["NAME", *(c["name"].upper() for c in COLUMNS[kind] if not c.get("priority"))]
    assert row.split()[1:-1] == columns.split()


def test_wide_columns_of_a_listener(kubectl: Kubectl) -> None:
    kubectl.apply(listener(address="0.0.0.0", defaultDomain="example.com"))
    write_status(kubectl, "listeners.letterlock.dev/sample", domainMapSummary="old.example")
    heading, row = kubectl("get", "lsn", "--output=wide").splitlines()
    assert heading.split()[-6:] == [
        "ADDRESS",
        "PROTOCOL",
        "DEFAULTDOMAIN",
        "CONCURRENCY",
        "QUEUE",
        "DOMAINMAP",
    ]
    assert row.split()[-6:] == ["0.0.0.0", "SMTP", "example.com", "1000", "50", "old.example"]


def test_a_gateway_scales(kubectl: Kubectl) -> None:
    kubectl.apply(gateway("default"))
    write_status(kubectl, "mgw/default", replicas=1, selector="letterlock.dev/gateway=default")
    kubectl("scale", "mgw/default", "--replicas=3")
    assert kubectl.json("get", "mgw", "default")["spec"]["replicas"] == 3
    scale = kubectl.json("get", "mgw", "default", "--subresource=scale")
    assert scale["status"] == {"replicas": 1, "selector": "letterlock.dev/gateway=default"}


def test_a_status_is_not_written_with_the_specification(kubectl: Kubectl) -> None:
    kubectl.apply({**gateway("default"), "status": {"ready": "9/9"}})
    assert "status" not in kubectl.json("get", "mgw", "default")


def test_appliers_share_lists_that_are_maps(kubectl: Kubectl) -> None:
    """Two people may each apply their own policies of one listener."""
    for owner, name in (("one", "a"), ("two", "b")):
        kubectl(
            "apply",
            "--server-side",
            f"--field-manager={owner}",
            "--filename=-",
            stdin=yaml.safe_dump(listener(mailFlowPolicies=[{"name": name, "behavior": "Accept"}])),
        )
    policies = kubectl.json("get", "lsn", "sample")["spec"]["mailFlowPolicies"]
    assert [policy["name"] for policy in policies] == ["a", "b"]
