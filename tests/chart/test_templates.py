"""What the chart renders to, switch by switch, and which values it takes."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import pytest
import yaml

from letterlock_api.state import HEALTH_PORT, STATE_PORT
from letterlock_gateway.report import metrics as report
from letterlock_operator import metrics as operator_metrics
from letterlock_operator import names
from tests.harness import promtool
from tests.harness.helm import CHART, OLDEST, Helm, Manifest, Values, of_kind, one_of

RBAC = CHART.parents[1] / "operator" / "rbac.yaml"
VALUES = (CHART / "values.yaml").read_text()
LISTENER = {
    "name": "inbound",
    "spec": {
        "type": "Public",
        "port": 25,
        "certificateRefs": [{"name": "mx"}],
        "defaultPolicy": {"tls": {"mode": "Preferred"}},
        "recipients": [{"match": [".sub.example.com", "example.com"], "action": "Accept"}],
    },
}
RESOURCES: Values = {
    "gateway": {"spec": {"hostname": "mx.example.com", "replicas": 2}},
    "certificates": [{"name": "mx", "spec": {"level": "Cluster", "dnsNames": ["mx.example.com"]}}],
    "listeners": [LISTENER],
    "destinationControls": [{"name": "partner", "spec": {"domains": ["partner.example"]}}],
    "caLists": [
        {"name": "own", "spec": {"certificatesFrom": {"configMapKeyRef": {"name": "ca", "key": "ca"}}}}
    ],
}
EVERYTHING: Values = {
    **RESOURCES,
    "commonLabels": {"team": "mail"},
    "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
    "operator": {
        "replicas": 2,
        "podDisruptionBudget": {"enabled": True},
        "podLabels": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "mail", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
    },
    "priorityClass": {"create": True},
    "networkPolicy": {"apiServerCIDRs": ["10.0.0.1/32"]},
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}


def rules(*roles: Manifest) -> set[tuple[str, str, str]]:
    """What roles allow, one entry a group, resource and verb."""
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def operator_pod(manifests: list[Manifest]) -> Manifest:
    return one_of(manifests, "Deployment")["spec"]["template"]["spec"]


def arguments(manifests: list[Manifest]) -> list[str]:
    return operator_pod(manifests)["containers"][0]["args"]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["as it comes", "everything"])
def test_helm_lint_finds_nothing(helm: Helm, values: Values) -> None:
    said = helm("lint", "--strict", str(CHART), "--kube-version", OLDEST, values=values)
    assert "0 chart(s) failed" in said


def test_chart_and_program_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (CHART.parents[1] / "pyproject.toml").read_text()
    assert f'\nversion = "{chart["version"]}"\n' in project
    assert chart["appVersion"] == chart["version"]


def test_clusters_that_are_too_old_are_refused(helm: Helm) -> None:
    done = helm.run("template", "mx", str(CHART), "--kube-version", "1.29.9")
    assert done.returncode != 0
    assert "1.29.9" in done.stderr


def test_as_it_comes_nothing_is_open(helm: Helm) -> None:
    manifests = helm.template()
    assert one_of(manifests, "MailGateway")["metadata"]["name"] == "default"
    for kind in ("Listener", "ServiceMonitor", "PrometheusRule", "ConfigMap", "PriorityClass", "Pod", "CRD"):
        assert not of_kind(manifests, kind), kind
    assert not of_kind(manifests, "CustomResourceDefinition"), "as templates they break a second release"


def test_the_operator_has_exactly_the_rights_of_its_rbac_file(helm: Helm) -> None:
    reference = [one for one in yaml.safe_load_all(RBAC.read_text()) if one["kind"] == "ClusterRole"]
    whole = rules(*reference)
    wide = helm.template({"operator": {"clusterWide": True}, "crds": {"upgrade": False}})
    assert not of_kind(wide, "Role")
    assert rules(*of_kind(wide, "ClusterRole")) == whole
    narrow = helm.template({"crds": {"upgrade": False}})
    (role,), (cluster,) = of_kind(narrow, "Role"), of_kind(narrow, "ClusterRole")
    assert role["metadata"]["namespace"] == "mail"
    watched = (("", "namespaces"), ("apiextensions.k8s.io", "customresourcedefinitions"))
    wide_only = {(*what, verb) for what in watched for verb in ("list", "watch")}
    assert rules(role) | rules(cluster) == whole - wide_only
    assert not rules(role) & rules(cluster)
    # What is granted in all of the cluster cannot read or change anything of a namespace.
    assert {group for group, _, _ in rules(cluster)} == {"certificates.k8s.io"}


def test_scope_names_namespaces_or_all(helm: Helm) -> None:
    default = helm.template()
    assert "--namespace=mail" in arguments(default)
    named = helm.template({"operator": {"watchNamespaces": ["mail", "sales"]}})
    assert [one["metadata"]["namespace"] for one in of_kind(named, "Role")] == ["mail", "sales"]
    assert {"--namespace=mail", "--namespace=sales"} <= set(arguments(named))
    wide = helm.template({"operator": {"clusterWide": True}})
    assert not [one for one in arguments(wide) if one.startswith("--namespace")]
    bindings = of_kind(default, "ValidatingAdmissionPolicyBinding")
    expected = [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["mail"]}]
    assert len(bindings) == 3
    for binding in bindings:
        assert binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"] == expected
    for binding in of_kind(wide, "ValidatingAdmissionPolicyBinding"):
        assert binding["spec"]["matchResources"]["namespaceSelector"] == {}


REFUSED: list[tuple[Values, str]] = [
    ({"operator": {"replica": 2}}, r"'/operator': additional properties 'replica' not allowed"),
    ({"operators": {}}, "additional properties 'operators' not allowed"),
    ({"operator": {"replicas": "two"}}, r"'/operator/replicas': got string, want integer"),
    ({"image": {"pullPolicy": "Sometimes"}}, r"'/image/pullPolicy': value must be one of"),
    ({"image": {"digest": "sha256:1"}}, r"'/image/digest'.* does not match pattern"),
    ({"networkPolicy": {"apiServerCIDRs": ["10.0.0.1"]}}, r"'/networkPolicy/apiServerCIDRs/0'"),
    (
        {"gateway": {"spec": {"replica": 2}}},
        r"'/gateway/spec': additional properties 'replica' not allowed",
    ),
    ({"gateway": {"spec": {"replicas": 65}}}, r"'/gateway/spec/replicas': maximum: got 65, want 64"),
    ({"listeners": [{"name": "x", "spec": {"typ": "Public"}}]}, r"'/listeners/0/spec'.*'typ'"),
    ({"listeners": [{"name": "x"}]}, r"'/listeners/0': missing property 'spec'"),
    ({"caLists": [{"name": "system", "spec": {}}]}, r"'/caLists/0/name'"),
    ({"operator": {"clusterWide": True, "watchNamespaces": ["a"]}}, "exclude each other"),
    ({"operator": {"watchNamespaces": ["sales"]}}, "leaves out the release's own namespace mail"),
    ({"operator": {"podDisruptionBudget": {"enabled": True}}}, "needs operator.replicas of 2 or more"),
    ({"serviceAccount": {"create": False}}, "name the account that is there"),
    ({"test": {"listener": "other"}}, "there is no other among listeners"),
]


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_wrong_values_are_refused_with_their_place(helm: Helm, values: Values, said: str) -> None:
    assert re.search(said, helm.refusal(values)), helm.refusal(values)


def test_everything_at_once(helm: Helm) -> None:
    manifests = helm.template(EVERYTHING)
    pod = operator_pod(manifests)
    assert pod["containers"][0]["image"] == f"letterlock@sha256:{'0' * 64}"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["tolerations"]
    assert pod["affinity"] == {"nodeAffinity": {}}
    assert pod["topologySpreadConstraints"]
    assert pod["priorityClassName"] == one_of(manifests, "PriorityClass")["metadata"]["name"]
    assert "--lease=mail/mx-letterlock-operator" in arguments(manifests)
    assert "--image-pull-secret=registry" in arguments(manifests)
    assert "--installation=mail/mx-letterlock" in arguments(manifests)
    assert one_of(manifests, "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    metadata = one_of(manifests, "Deployment")["spec"]["template"]["metadata"]
    assert metadata["labels"]["a"] == "b"
    assert metadata["annotations"] == {"c": "d"}
    assert all(one["metadata"]["labels"]["team"] == "mail" for one in manifests)
    for kind, name in (("Certificate", "mx"), ("Listener", "inbound"), ("DestinationControl", "partner")):
        assert one_of(manifests, kind, name)["spec"]["gatewayRef"] == {"name": "default"}
    assert "gatewayRef" not in one_of(manifests, "CAList", "own")["spec"]


def test_what_is_switched_off_is_not_there(helm: Helm) -> None:
    manifests = helm.template(
        {
            "gateway": {"enabled": False},
            "serviceAccount": {"create": False, "name": "mine"},
            "rbac": {"create": False},
            "crds": {"upgrade": False},
            "networkPolicy": {"enabled": False},
            "admissionPolicies": {"protectSystemList": False, "warnings": False},
        }
    )
    assert [one["kind"] for one in manifests] == ["Deployment"]
    assert operator_pod(manifests)["serviceAccountName"] == "mine"


def test_names_can_be_chosen_and_two_releases_share_none_of_the_clusters(helm: Helm) -> None:
    named = helm.template({"fullnameOverride": "post"})
    assert one_of(named, "Deployment")["metadata"]["name"] == "post-operator"
    short = helm.template({"nameOverride": "ll"})
    assert one_of(short, "Deployment")["metadata"]["name"] == "mx-ll-operator"
    kinds = ("ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "PriorityClass")
    values = {"priorityClass": {"create": True}}

    def wide(there: Helm) -> set[str]:
        rendered = there.template(values)
        return {one["metadata"]["name"] for kind in kinds for one in of_kind(rendered, kind)}

    assert wide(helm)
    assert not wide(helm) & wide(replace(helm, namespace="sales"))


def test_members_are_spread_and_ranked_unless_the_gateway_says_how(helm: Helm) -> None:
    spread = one_of(helm.template({"priorityClass": {"create": True}}), "MailGateway")["spec"]["podTemplate"][
        "spec"
    ]
    keys = [one["topologyKey"] for one in spread["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for one in spread["topologySpreadConstraints"]:
        assert one["labelSelector"]["matchLabels"].items() <= names.labels("default").items()
    assert spread["priorityClassName"] == "mail-mx-letterlock"
    said: Manifest = {"topologySpreadConstraints": [], "priorityClassName": "own", "nodeSelector": {"a": "b"}}
    template: Manifest = {"metadata": {"labels": {"x": "y"}}, "spec": said}
    values: Values = {"priorityClass": {"create": True}, "gateway": {"spec": {"podTemplate": template}}}
    assert one_of(helm.template(values), "MailGateway")["spec"]["podTemplate"] == template
    plain = helm.template({"gateway": {"spread": False}})
    assert one_of(plain, "MailGateway")["spec"] == {}


def test_the_operator_reaches_the_api_server_and_members_state_and_nothing_else(helm: Helm) -> None:
    """The content only: nothing on this machine enforces policies."""
    policy = one_of(helm.template(EVERYTHING), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
    api, dns, state = policy["egress"]
    assert {one["port"] for one in api["ports"]} == {443, 6443, 8443}
    assert api["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    assert {one["port"] for one in dns["ports"]} == {53, 5353}
    assert state["ports"] == [{"port": STATE_PORT, "protocol": "TCP"}]
    (peer,) = state["to"]
    assert peer["podSelector"]["matchLabels"].items() <= names.labels("default").items()
    wide = one_of(helm.template({"operator": {"clusterWide": True}}), "NetworkPolicy")["spec"]
    assert wide["egress"][2]["to"][0]["namespaceSelector"] == {}
    # It is for the operator's pods: the labels that it selects by are theirs.
    labels = one_of(helm.template(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_rules_monitor_and_dashboard_speak_of_one_set_of_metrics(helm: Helm) -> None:
    manifests = helm.template(EVERYTHING)
    members, operator = sorted(of_kind(manifests, "Service"), key=lambda one: one["metadata"]["name"])
    assert members["spec"]["ports"][0]["targetPort"] == HEALTH_PORT
    assert members["spec"]["selector"] == dict(names.labels("default"))
    deployment = one_of(manifests, "Deployment")["spec"]["template"]
    assert operator["spec"]["selector"].items() <= deployment["metadata"]["labels"].items()
    [port] = deployment["spec"]["containers"][0]["ports"]
    assert operator["spec"]["ports"][0]["targetPort"] == port["containerPort"]
    monitor = one_of(manifests, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    for service in (members, operator):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    alerts = [
        one for group in one_of(manifests, "PrometheusRule")["spec"]["groups"] for one in group["rules"]
    ]
    assert {one["alert"] for one in alerts} == {
        "LetterlockCertificateEndsSoon",
        "LetterlockTLSFailures",
        "LetterlockRequiredTLSFails",
        "LetterlockMailWaits",
        "LetterlockMemberSilent",
        "LetterlockMembersBehind",
    }
    assert "< 1209600" in alerts[0]["expr"]
    dashboard = json.loads(one_of(manifests, "ConfigMap")["data"]["letterlock.json"])
    asked = " ".join(one["expr"] for one in alerts)
    shown = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    told = (CHART.parents[1] / "docs" / "operations.md").read_text()
    families = {**report.FAMILIES, **operator_metrics.FAMILIES}
    for metric in set(re.findall(r"letterlock_[a-z_]+", asked + shown)):
        assert metric in families, f"{metric} is served by nobody"
    for metric in families:
        assert f"`{metric}`" in told, f"{metric} is not in docs/operations.md"
    # Labels that rules and dashboard speak of: of the metric itself, or given to its target.
    for metric, selected in re.findall(r"(letterlock_[a-z_]+){([^}]*)}", asked + shown):
        labels = set(re.findall(r"(\w+)(?:=|!=|=~)\"", selected))
        assert labels <= {*families[metric].labels, "namespace", "gateway", "pod"}, metric


def test_promtool_takes_the_rules_and_they_fire_when_they_shall(helm: Helm, tmp_path: Path) -> None:
    groups = one_of(helm.template(EVERYTHING), "PrometheusRule")["spec"]["groups"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    assert promtool.rules_problems(tmp_path / "rules.yaml") == ""
    labels = 'namespace="mail",gateway="default"'
    out = f'letterlock_tls_connections_total{{{labels},direction="out",'
    series = {
        # Ends after 13 days.
        f'letterlock_certificate_expiry_timestamp_seconds{{{labels},certificate="mx"}}': "1123200+0x600",
        # One of five connections fails.
        f'{out}result="failed"}}': "0+1x600",
        f'{out}result="verified"}}': "0+4x600",
        f'letterlock_tls_required_failures_total{{{labels},reason="NameMismatch"}}': "0+1x600",
        f"letterlock_queue_age_seconds{{{labels}}}": "7200+0x600",
        f"letterlock_members_behind{{{labels}}}": "1+0x600",
        f'up{{{labels},service="mx-letterlock-metrics",pod="default-0"}}': "0+0x600",
    }
    fires = [{"alertname": one["alert"], "eval_time": "2h"} for group in groups for one in group["rules"]]
    expected = [{**one, "exp_alerts": [_fired(*_FIRED[one["alertname"]])]} for one in fires]
    quiet: list[dict[str, object]] = [{**one, "exp_alerts": []} for one in fires]
    fine = {
        key: "3000000+0x600" if "expiry" in key else "1+0x600" if key.startswith("up") else "0+0x600"
        for key in series
    }
    tests: dict[str, object] = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {"interval": "1m", "input_series": _input(series), "alert_rule_test": expected},
            {"interval": "1m", "input_series": _input(fine), "alert_rule_test": quiet},
        ],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    assert promtool.failing_rules(tmp_path / "tests.yaml") == ""


def _input(series: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


_ONE: Final = {"namespace": "mail", "gateway": "default"}
_FIRED: Final[dict[str, tuple[dict[str, str], str]]] = {
    "LetterlockCertificateEndsSoon": (
        {"namespace": "mail", "certificate": "mx"},
        "Certificate mx in mail ends in 12d 22h 0m 0s",
    ),
    "LetterlockTLSFailures": (_ONE, "Of outgoing TLS connections of default, 20 % fail"),
    "LetterlockRequiredTLSFails": (
        _ONE,
        "Mail of default waits, because TLS that is required cannot be had",
    ),
    "LetterlockMailWaits": (_ONE, "The oldest message of default waits for 2h 0m 0s"),
    "LetterlockMembersBehind": (_ONE, "Of default, 1 members do not run what the resources say"),
    "LetterlockMemberSilent": (
        {**_ONE, "pod": "default-0", "service": "mx-letterlock-metrics"},
        "Member default-0 of default does not answer",
    ),
}


def _fired(labels: dict[str, str], summary: str) -> dict[str, object]:
    return {
        "exp_labels": {"severity": "warning", **labels},
        "exp_annotations": {"summary": summary},
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({}, None, id="no listener"),
        pytest.param(
            RESOURCES,
            ["letterlock-inbound.mail.svc:25", "--from=", "--to=postmaster@example.com", "--tls=starttls"],
            id="a public listener",
        ),
        pytest.param(
            {"listeners": [{"name": "own", "spec": {"type": "Private"}}]},
            None,
            id="nobody to write to is known",
        ),
        pytest.param(
            {
                "listeners": [
                    LISTENER,
                    {"name": "own", "spec": {"type": "Private", "port": 465, "protocol": "SMTPS"}},
                ],
                "test": {"listener": "own", "sender": "me@example.com", "recipient": "you@example.net"},
            },
            ["letterlock-own.mail.svc:465", "--from=me@example.com", "--to=you@example.net", "--tls=smtps"],
            id="a listener and a recipient that are named",
        ),
    ],
)
def test_helm_test_sends_to_a_listener(helm: Helm, values: Values, expected: list[str] | None) -> None:
    pods = of_kind(helm.template(values), "Pod")
    assert [one["spec"]["containers"][0]["args"] for one in pods] == (
        [["send-test", *expected]] if expected else []
    )


def documented(node: yaml.MappingNode, lines: list[str], path: str) -> list[str]:
    """Paths of values without a comment right above them."""
    missing: list[str] = []
    pairs: list[tuple[yaml.ScalarNode, yaml.Node]] = node.value
    for key, value in pairs:
        place = f"{path}.{key.value}"
        above = lines[key.start_mark.line - 1]
        if not above.lstrip().startswith("# "):
            missing.append(place)
        if isinstance(value, yaml.MappingNode):
            missing += documented(value, lines, place)
    return missing


def test_every_value_is_documented() -> None:
    whole = cast("yaml.Node", yaml.compose(VALUES))
    assert isinstance(whole, yaml.MappingNode)
    assert documented(whole, VALUES.splitlines(), "") == []


def places(node: Manifest, schema: Manifest, whole: Manifest, path: str) -> list[str]:
    """Where values and schema speak of different keys."""
    found = [f"{path}.{key}" for key in set(node) ^ set(schema["properties"])]
    for key in set(node) & set(schema["properties"]):
        below = schema["properties"][key]
        if "$ref" in below:
            below = whole["definitions"][below["$ref"].removeprefix("#/definitions/")]
        # The specs of resources are documented by `kubectl explain`.
        if "properties" in below and f"{path}.{key}" != ".gateway.spec":
            found += places(node[key], below, whole, f"{path}.{key}")
    return found


def test_values_and_their_schema_speak_of_the_same() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    # helm itself fills in `global`.
    assert places(yaml.safe_load(VALUES), schema, schema, "") == [".global"]


def closed(node: object, path: str) -> list[str]:
    """Objects with fields of their own that take others too."""
    if not isinstance(node, dict):
        return []
    here = cast("Manifest", node)
    opened = "properties" in here and "type" in here and here.get("additionalProperties") is not False
    return [*([path] if opened else []), *(one for key in here for one in closed(here[key], f"{path}/{key}"))]


def test_the_schema_is_closed() -> None:
    assert closed(json.loads((CHART / "values.schema.json").read_text()), "") == []


def test_notes_tell_the_next_step(cluster_helm: Helm) -> None:
    # `helm template` leaves the notes out; a dry run shows them.
    def notes(values: Values) -> str:
        said = cluster_helm("install", "mx", str(CHART), "--dry-run=client", values=values)
        return said.partition("NOTES:")[2]

    assert "kubectl explain listeners.spec" in notes({})
    assert "kubectl explain mailgateways.spec" in notes({"gateway": {"enabled": False}})
    told = notes(RESOURCES)
    assert "helm -n mail test mx" in told
    assert "mailgateway/default listener/inbound" in told
    assert "demo certificate" not in told
    bare = {**LISTENER, "spec": {"type": "Private"}}
    assert "demo certificate" in notes({"listeners": [bare]})
    assert "test.recipient" in notes({"listeners": [bare]})
