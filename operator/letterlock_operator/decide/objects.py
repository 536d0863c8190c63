"""Derived Kubernetes objects of a gateway, as manifests: StatefulSet, Services and what belongs to them. Pure.

The pod template never changes with configuration, for that would restart the members: one projected volume declares
every source from the start, all of them optional, and Services use numeric target ports. `act.mounts` writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from letterlock_api.listener import Listener
from letterlock_api.mailgateway import MailGateway
from letterlock_api.state import HEALTH_PORT, STATE_PORT
from letterlock_operator import names
from letterlock_operator.decide import networks
from letterlock_operator.plan import Mount, Plan
from letterlock_operator.world import World

type Manifest = dict[str, Any]

# Where neither the gateway nor the operator's environment names one; the chart always does.
DEFAULT_IMAGE: Final = "letterlock:latest"
_USER: Final = 65532  # "nonroot" of distroless images
# Members accept for so long after SIGTERM, for Services forget them within seconds, not at once; then sessions in
# progress get theirs, and the spool is closed. The kubelet waits for a little more than all of that.
_LINGER_SECONDS: Final = 10
_SESSION_SECONDS: Final = 30
_GRACE_SECONDS: Final = 60
_MOUNT: Final = "/etc/letterlock"
_SPOOL: Final = "/var/spool/letterlock"


@dataclass(frozen=True)
class Pods:
    """What the operator's own options say about members' pods."""

    image: str
    """For gateways that name none."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets of each gateway's namespace that images are pulled with."""
    operator_namespace: str = ""
    """Where the operator's pods run; empty: it runs outside the cluster."""


@dataclass(frozen=True)
class Derived:
    """Derived objects, and what they were made from: given back, what did not change stays the same objects."""

    by_gateway: Mapping[str, tuple[tuple[object, ...], Sequence[Manifest]]] = field(
        default_factory=dict[str, tuple[tuple[object, ...], Sequence[Manifest]]]
    )

    @property
    def objects(self) -> list[Manifest]:
        """All of them."""
        return [one for _, made in self.by_gateway.values() for one in made]


NOTHING: Final = Derived()


def objects(world: World, plan: Plan, pods: Pods) -> list[Manifest]:
    """All derived objects of the namespace's gateways."""
    return objects_again(world, plan, pods, NOTHING).objects


def objects_again(world: World, plan: Plan, pods: Pods, before: Derived) -> Derived:
    """The same, in less time where `before` is of nearly the same world and of the same `pods`."""
    listening: dict[str, list[Listener]] = {}
    for _, one in sorted(world.listeners.items()):
        listening.setdefault(one.spec.gateway_ref.name, []).append(one)
    found: dict[str, tuple[tuple[object, ...], Sequence[Manifest]]] = {}
    for name, gateway in sorted(world.gateways.items()):
        mine, mount = listening.get(name, []), plan.mounts.get(name)
        replicas = plan.replicas.get(name, gateway.spec.replicas)
        owners = [(one.spec, one.metadata.uid) for one in (gateway, *mine)]
        inputs = (owners, [one.name for one in mine], gateway.metadata.namespace, mount, replicas)
        known = before.by_gateway.get(name)
        if known is not None and known[0] == inputs:
            found[name] = inputs, known[1]
            continue
        made = _of_gateway(gateway, mine, mount, pods, replicas)
        old = {(one["kind"], one["metadata"]["name"]): one for one in known[1]} if known is not None else {}
        kept = [(old.get((one["kind"], one["metadata"]["name"])), one) for one in made]
        found[name] = inputs, [was if was is not None and was == one else one for was, one in kept]
    return Derived(found)


def _of_gateway(
    gateway: MailGateway, mine: Sequence[Listener], mount: Mount | None, pods: Pods, replicas: int
) -> list[Manifest]:
    """Those of one gateway, whose Listeners are `mine`."""
    found = _of_members(gateway, pods, replicas)
    running = {one.name for one in mount.snapshot.listeners} if mount is not None else set[str]()
    if mount is not None:
        # Without a complete decision the members run what they ran, through the policy that stands.
        policy = networks.of_members(gateway, mount.snapshot, pods.operator_namespace)
        found.append(_network_policy(gateway, policy))
    found += [_listener_service(gateway, one) for one in mine if one.name in running]
    if mount is not None and mount.snapshot.management is not None:
        found.append(_https_service(gateway, mount.snapshot.management.port))
    return found


def _of_members(gateway: MailGateway, pods: Pods, replicas: int) -> list[Manifest]:
    return [
        _service_account(gateway),
        _members_service(gateway),
        _disruption_budget(gateway),
        _stateful_set(gateway, pods, replicas),
    ]


def _manifest(
    api: str, kind: str, name: str, gateway: MailGateway, owner: Listener | None = None, **parts: object
) -> Manifest:
    """A manifest that goes when `owner` goes (the gateway, unless given)."""
    owning = owner or gateway
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": gateway.metadata.namespace,
            "labels": dict(names.labels(gateway.name)),
            "ownerReferences": [
                {
                    "apiVersion": owning.api_version,
                    "kind": owning.kind,
                    "name": owning.name,
                    "uid": owning.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        **parts,
    }


def _service_account(gateway: MailGateway) -> Manifest:
    """An account that may do nothing: members have no credentials for the API."""
    return _manifest(
        "v1", "ServiceAccount", f"{gateway.name}-member", gateway, automountServiceAccountToken=False
    )


def _members_service(gateway: MailGateway) -> Manifest:
    return _manifest(
        "v1",
        "Service",
        f"{gateway.name}-members",
        gateway,
        spec={
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": dict(names.labels(gateway.name)),
            "ports": [{"name": "state", "port": STATE_PORT, "targetPort": STATE_PORT, "protocol": "TCP"}],
        },
    )


def _listener_service(gateway: MailGateway, listener: Listener) -> Manifest:
    wanted = listener.spec.service
    spec: Manifest = {
        "type": wanted.type,
        "selector": dict(names.labels(gateway.name)),
        "ports": [
            {
                "name": "smtp",
                "port": listener.spec.port,
                "targetPort": networks.target_port(listener.spec.port),
                "protocol": "TCP",
            }
        ],
    }
    if wanted.type != "ClusterIP":
        # Local keeps the clients' addresses, which host access rests on.
        spec["externalTrafficPolicy"] = wanted.external_traffic_policy or "Local"
    made = _manifest("v1", "Service", names.service(listener.name), gateway, listener, spec=spec)
    if wanted.annotations:
        made["metadata"]["annotations"] = dict(wanted.annotations)
    return made


def _https_service(gateway: MailGateway, port: int) -> Manifest:
    """In front of the management pages of all members: any of them knows the sessions of the others."""
    return _manifest(
        "v1",
        "Service",
        names.https_service(gateway.name),
        gateway,
        spec={
            "type": "ClusterIP",
            "selector": dict(names.labels(gateway.name)),
            "ports": [
                {
                    "name": "https",
                    "port": port,
                    "targetPort": networks.target_port(port),
                    "protocol": "TCP",
                }
            ],
        },
    )


def services_without_use(world: World, plan: Plan) -> list[str]:
    """Services of ours that nothing wants any more, by name: management that was switched off."""
    return [
        names.https_service(name)
        for name in sorted(world.gateways)
        if (mount := plan.mounts.get(name)) is not None and mount.snapshot.management is None
    ]


def _network_policy(gateway: MailGateway, spec: Manifest) -> Manifest:
    return _manifest("networking.k8s.io/v1", "NetworkPolicy", f"{gateway.name}-members", gateway, spec=spec)


def _disruption_budget(gateway: MailGateway) -> Manifest:
    return _manifest(
        "policy/v1",
        "PodDisruptionBudget",
        f"{gateway.name}-members",
        gateway,
        spec={"maxUnavailable": 1, "selector": {"matchLabels": dict(names.labels(gateway.name))}},
    )


def _stateful_set(gateway: MailGateway, pods: Pods, replicas: int) -> Manifest:
    labels = dict(names.labels(gateway.name))
    template: Mapping[str, Any] = gateway.spec.pod_template
    metadata: Mapping[str, Any] = template.get("metadata") or {}
    scheduling: Mapping[str, Any] = template.get("spec") or {}
    pod_metadata: Manifest = {"labels": {**(metadata.get("labels") or {}), **labels}}
    if metadata.get("annotations"):
        pod_metadata["annotations"] = metadata["annotations"]
    claim: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": gateway.spec.storage.size}},
    }
    if gateway.spec.storage.storage_class_name:
        claim["storageClassName"] = gateway.spec.storage.storage_class_name
    return _manifest(
        "apps/v1",
        "StatefulSet",
        gateway.name,
        gateway,
        spec={
            "replicas": replicas,
            "serviceName": f"{gateway.name}-members",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": pod_metadata,
                "spec": {**_scheduling(scheduling), **_pod(gateway, pods)},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "spool"}, "spec": claim}],
        },
    )


def _scheduling(given: Mapping[str, Any]) -> Manifest:
    """Of the template only scheduling counts: the rest is ours."""
    allowed = ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName")
    return {key: given[key] for key in allowed if key in given}


def _pod(gateway: MailGateway, pods: Pods) -> Manifest:
    image = gateway.spec.image or pods.image or DEFAULT_IMAGE
    return {
        **({"imagePullSecrets": [{"name": one} for one in pods.pull_secrets]} if pods.pull_secrets else {}),
        "serviceAccountName": f"{gateway.name}-member",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(gateway, image)],
        "volumes": [
            {"name": "configuration", "projected": {"defaultMode": 0o440, "sources": _sources(gateway.name)}}
        ],
    }


def _container(gateway: MailGateway, image: str) -> Manifest:
    return {
        "name": "gateway",
        "image": image,
        "args": [
            "gateway",
            "--mount",
            _MOUNT,
            "--spool",
            _SPOOL,
            "--member",
            "$(POD_NAME)",
            "--low-port-offset",
            str(networks.LOW_PORT_OFFSET),
            "--linger",
            str(_LINGER_SECONDS),
            "--grace",
            str(_SESSION_SECONDS),
        ],
        "env": [
            {
                "name": "POD_NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
            }
        ],
        **({"resources": gateway.spec.resources} if gateway.spec.resources else {}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": HEALTH_PORT, "scheme": "HTTP"},
            "periodSeconds": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": HEALTH_PORT, "scheme": "HTTP"},
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "volumeMounts": [
            {"name": "configuration", "mountPath": _MOUNT, "readOnly": True},
            {"name": "spool", "mountPath": _SPOOL},
        ],
    }


def _sources(gateway: str) -> Sequence[Manifest]:
    found: list[Manifest] = [{"configMap": {"name": names.snapshot_config_map(gateway), "optional": True}}]
    found += [
        {"configMap": {"name": names.ca_shard(gateway, number), "optional": True}}
        for number in range(names.CA_SHARDS)
    ]
    found += [
        {"secret": {"name": names.key_shard(gateway, number), "optional": True}}
        for number in range(names.KEY_SHARDS)
    ]
    found.append({"secret": {"name": names.member_secret(gateway), "optional": True}})
    return found
