"""Whatever happens to a gateway's objects, in whatever order, they come back, and nobody else's are touched."""

import base64
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509

from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.operators import operator
from tests.harness.quickstart import CERTIFICATE, GATEWAY, QUICKSTART, converged, holds, resource, settled
from tests.harness.waiting import until

KINDS: Final = "services,configmaps,secrets,statefulsets,serviceaccounts,networkpolicies,poddisruptionbudgets"
OTHERS: Final = (
    resource("MailGateway", "other", replicas=1, hostname="other.example.com"),
    resource(
        "Certificate", "their", gatewayRef={"name": "other"}, level="Cluster", dnsNames=["other.example.com"]
    ),
    resource(
        "Listener",
        "theirs",
        gatewayRef={"name": "other"},
        type="Private",
        port=26,
        certificateRefs=[{"name": "their"}],
        defaultPolicy={"tls": {"mode": "Preferred"}},
    ),
)
# Edits of fields that are ours, by kind: they must be undone. What others add beside them (a port, a label) is theirs
# (server-side apply). Each object gets at most one: more would be a FieldConflict.
EDITS: Final[Mapping[str, dict[str, Any]]] = {
    "Service": {"spec": {"selector": {"letterlock.dev/gateway": "somebody-else"}}},
    "StatefulSet": {"spec": {"template": {"spec": {"serviceAccountName": "default"}}}},
    "ServiceAccount": {"automountServiceAccountToken": True},
    "NetworkPolicy": {"spec": {"ingress": []}},
    "PodDisruptionBudget": {"spec": {"maxUnavailable": 7}},
}


def derived(kubectl: Kubectl, gateway: str) -> dict[str, dict[str, Any]]:
    """The objects of a gateway that are made from others; keys are not."""
    items = kubectl.json("get", KINDS, f"--selector=letterlock.dev/gateway={gateway}")["items"]
    found = {f"{one['kind']}/{one['metadata']['name']}": one for one in items}
    return {name: one for name, one in found.items() if not name.startswith("Secret/letterlock-")}


def meant(item: Mapping[str, Any]) -> dict[str, Any]:
    """What is meant by an object, without what the API server writes of it."""
    whole: dict[str, Any] = item.get("spec") or {}
    given = {"clusterIP", "clusterIPs", "healthCheckNodePort"}
    spec = {key: value for key, value in whole.items() if key not in given}
    data = dict[str, Any](item.get("data") or {})
    if "snapshot.json" in data:
        data["snapshot.json"] = json.loads(data["snapshot.json"])
        # Who may take mail is remembered there alone: once it is lost, all that may have mail are named again.
        del data["snapshot.json"]["admits"]
    rest = ("binaryData", "automountServiceAccountToken")
    labels = item["metadata"]["labels"]
    return {"spec": spec, "labels": labels, "data": data, **{key: item.get(key) for key in rest}}


def revisions(found: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    return {
        name: (one["metadata"]["uid"], one["metadata"]["resourceVersion"])
        for name, one in found.items()
        # Its controllers count pods and write that down.
        if not name.startswith(("StatefulSet", "PodDisruptionBudget"))
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_objects_that_are_deleted_and_edited_at_random_come_back_and_no_others_move(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    with (
        api_server.fresh_namespace() as second,
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log", "--namespace", second),
    ):
        elsewhere = kubectl.within(second)
        kubectl.apply(*QUICKSTART, *OTHERS)
        elsewhere.apply(GATEWAY, CERTIFICATE)
        converged(kubectl)
        for where, what in (
            (kubectl, "listeners.letterlock.dev/theirs"),
            (elsewhere, "mailgateways.letterlock.dev/default"),
        ):
            until(lambda where=where, what=what: holds(where, what, "Accepted"), what=f"{what} Accepted")
        until(lambda: settled(kubectl) and settled(elsewhere), what="no more changes", every=1.0, seconds=120)
        before = derived(kubectl, "default")
        others = revisions(derived(kubectl, "other")), revisions(derived(elsewhere, "default"))
        assert len(before) > 6
        for name in chance.sample(sorted(before), len(before)):
            edit = EDITS.get(before[name]["kind"])
            if before[name]["kind"] == "ConfigMap":
                edit = {"data": {next(iter(before[name]["data"])): "broken"}}
            if edit is None or chance.random() < 0.5:
                kubectl("delete", name, "--wait=false")
            else:
                kubectl("patch", name, "--type=merge", f"--patch={json.dumps(edit)}")

        wanted = {name: meant(one) for name, one in before.items()}

        def back() -> bool:
            return {name: meant(one) for name, one in derived(kubectl, "default").items()} == wanted

        until(back, seconds=60, what="all objects as they were")
        assert (revisions(derived(kubectl, "other")), revisions(derived(elsewhere, "default"))) == others


def test_members_of_two_gateways_mount_nothing_of_each_other(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    def mounted(gateway: str) -> dict[str, set[str]]:
        """By the name of a Secret that its pods mount: what is in it, in base64."""
        found = kubectl.json("get", "statefulset", gateway)["spec"]["template"]["spec"]["volumes"]
        sources = [source for one in found for source in one["projected"]["sources"]]
        names = {source["secret"]["name"] for source in sources if "secret" in source}
        assert all(name.startswith(f"{gateway}-") for name in names)
        secrets = {one["metadata"]["name"]: one for one in kubectl.json("get", "secrets")["items"]}
        return {name: {*secrets[name].get("data", {}).values()} for name in names & secrets.keys()}

    with operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"):
        kubectl.apply(*QUICKSTART, *OTHERS)
        converged(kubectl)
        until(lambda: holds(kubectl, "certificates.letterlock.dev/their", "Ready"), what="their certificate")
        until(lambda: settled(kubectl), what="no more changes", every=1.0, seconds=120)
        ours, theirs = mounted("default"), mounted("other")
    assert not ours.keys() & theirs.keys()
    files = [{base64.b64decode(value) for one in by.values() for value in one} for by in (ours, theirs)]
    assert not files[0] & files[1]
    for mine, name in zip(files, ("mx", "their"), strict=True):
        made = kubectl("get", "secret", f"letterlock-cert-{name}", "--output=jsonpath={.data.tls\\.crt}")
        certificate = x509.load_pem_x509_certificate(base64.b64decode(made))
        pairs = [one for one in mine if b"BEGIN CERTIFICATE" in one]
        assert [one for one in pairs if certificate in x509.load_pem_x509_certificates(one)]
