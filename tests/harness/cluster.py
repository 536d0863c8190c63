"""A real Kubernetes of one node in network, process and mount namespaces of its own, for tests/cluster.

kube-apiserver, etcd and controller manager as in `apiserver`, and what runs pods: kubelet, containerd, scheduler,
kube-proxy, cluster DNS, on Debian's runc and CNI plugins. All ends with the `with`, nothing is left behind. A test that
talks to it (kubectl, mail clients, receivers) has to be in its network: `Cluster.inside()`.

Or a cluster that the caller names: LETTERLOCK_TESTS_KUBECONFIG, together with LETTERLOCK_TESTS_IMAGE (our image, as its
nodes can pull it) and LETTERLOCK_TESTS_ADDRESS (of this machine, as its pods reach it; this machine reaches its pods).
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.harness import apiserver, programs
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.ports import wait_for_listener
from tests.harness.sandbox import Sandbox, sandbox
from tests.harness.waiting import until

NODE: Final = "node"
_ADDRESS: Final = "10.200.0.1"
_PODS: Final = "10.201.0.0/16"
_HERE: Final = Path(__file__).parent
_CNI_PLUGINS: Final = "/usr/lib/cni"
_IMAGE: Final = "docker.io/library/letterlock:tests"
# Spool volumes that may be claimed in one run of the tests; each is a directory, and only a claim fills it.
_VOLUMES: Final = 48


@dataclass
class Cluster:
    """A running cluster, and how tests get at it."""

    server: ApiServer
    image: str
    """Ours, under the name that its nodes know."""
    address: str
    """Of the machine that the tests run on, for its pods."""
    domain_addresses: Path | None = None
    """The cluster DNS's own hosts file; None: the caller's cluster has none that we could write."""
    binaries: Path | None = None
    sandbox: Sandbox | None = None
    logs: Path | None = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, subprocess.Popen[bytes]])

    @property
    def kubectl(self) -> Kubectl:
        """As administrator. Only from `inside`."""
        return self.server.kubectl

    @contextlib.contextmanager
    def inside(self) -> Generator[None]:
        """This thread, and the threads and programs that it starts meanwhile, are in the cluster's network."""
        if self.sandbox is None:
            yield
            return
        with self.sandbox.inside():
            yield

    def resolve(self, name: str, address: str) -> None:
        """From now on (within a second) the cluster's DNS answers `address` for `name`."""
        if self.domain_addresses is None:
            raise RuntimeError("the caller's cluster resolves names in its own way")
        with self.domain_addresses.open("a") as hosts:
            hosts.write(f"{address} {name}\n")

    def tag(self, image: str, also: str) -> None:
        """Give an image that the node has a second name, for upgrades."""
        self.ctr("images", "tag", image, also)

    def ctr(self, *arguments: str) -> str:
        """containerd's own command, on the node."""
        if self.sandbox is None or self.binaries is None or self.logs is None:
            raise RuntimeError("the caller's nodes are not ours")
        socket = self.logs / "containerd.sock"
        command = (str(self.binaries / "ctr"), "--address", str(socket), "--namespace", "k8s.io", *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@contextlib.contextmanager
def running() -> Generator[Cluster]:
    """A cluster without anything of ours in it but the image; ended on leaving."""
    if os.environ.get("LETTERLOCK_TESTS_KUBECONFIG"):
        yield _callers()
        return
    built = apiserver.binaries("node")
    images = subprocess.run(
        (str(_HERE / "kube" / "image.sh"),), stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    with (
        tempfile.TemporaryDirectory(prefix="letterlock-cluster-", ignore_cleanup_errors=True) as folder,
        _no_cgroups_left(Path(folder)),
        contextlib.ExitStack() as ends,
        sandbox(_ADDRESS) as around,
    ):
        with around.inside():
            cluster = _start(Path(folder), built, images, around, ends)
        yield cluster


def _start(
    data: Path, built: Path, images: Sequence[str], around: Sandbox, ends: contextlib.ExitStack
) -> Cluster:
    server, process = apiserver.control_plane(built, data, ends, address=_ADDRESS)
    cluster = Cluster(
        server, _IMAGE, _ADDRESS, data / "hosts", built, around, data, {"kube-apiserver": process}
    )
    node = _Node(cluster, data, built, ends)
    node.start_containerd()
    for image in images:
        cluster.ctr("images", "import", image)
    node.start_kubelet()
    node.start_dns()
    node.start("kube-scheduler", "--leader-elect=false", "--secure-port=0")
    node.start_proxy()
    _volumes(cluster, data)
    until(lambda: _is_ready(cluster), seconds=120, what="a Ready node")
    return cluster


def _callers() -> Cluster:
    """The cluster that the caller names."""
    kubeconfig = Path(os.environ["LETTERLOCK_TESTS_KUBECONFIG"])
    kubectl = Kubectl(programs.require("kubectl"), kubeconfig)
    url = kubectl("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
    server = ApiServer(url, kubeconfig, Path(), "", kubectl)
    return Cluster(server, os.environ["LETTERLOCK_TESTS_IMAGE"], os.environ["LETTERLOCK_TESTS_ADDRESS"])


def _is_ready(cluster: Cluster) -> bool:
    done = cluster.kubectl.run("get", "node", NODE, "--output", "json")
    if done.returncode != 0:
        return False
    conditions: list[dict[str, str]] = json.loads(done.stdout)["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class _Node:
    """The node's programs."""

    def __init__(self, cluster: Cluster, data: Path, built: Path, ends: contextlib.ExitStack) -> None:
        self._cluster = cluster
        self._data = data
        self._built = built
        self._ends = ends
        for name in ("containerd", "containerd-run", "cni", "cni-state", "kubelet", "pods", "empty"):
            (data / name).mkdir()

    def start(self, name: str, *arguments: str, kubeconfig: str = "--kubeconfig") -> None:
        """A program that works for the API server."""
        command = (str(self._built / name), f"{kubeconfig}={self._data / 'kubeconfig'}", *arguments)
        self._run(name, command)

    def start_containerd(self) -> None:
        """containerd, once it answers."""
        data = self._data
        (data / "containerd.toml").write_text(_CONTAINERD.format(data=data, cni=_CNI_PLUGINS))
        (data / "cni" / "10-pods.conflist").write_text(_CNI.replace("PODS", _PODS).replace("DATA", str(data)))
        child = self._run(
            "containerd",
            (str(self._built / "containerd"), "--config", str(data / "containerd.toml")),
            inside=True,
        )
        probe = (str(self._built / "ctr"), "--address", str(data / "containerd.sock"), "version")
        apiserver.wait_until_ready(child, data / "containerd.log", probe)

    def start_kubelet(self) -> None:
        """The kubelet. Its node is Ready some seconds later."""
        data = self._data
        configuration = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{data / 'containerd.sock'}",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "clusterDNS": [_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "podLogsDir": str(data / "pods"),
            "volumePluginDir": str(data / "empty"),
            "staticPodPath": "",
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(data / "ca.pem")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            # How a member answers is what tests wait for; the defaults save an API server of thousands of nodes.
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
        }
        (data / "kubelet.yaml").write_text(yaml.safe_dump(configuration))
        command = (
            str(self._built / "kubelet"),
            f"--config={data / 'kubelet.yaml'}",
            f"--kubeconfig={data / 'kubeconfig'}",
            f"--root-dir={data / 'kubelet'}",
            f"--cert-dir={data / 'kubelet' / 'pki'}",
            f"--hostname-override={NODE}",
            f"--node-ip={_ADDRESS}",
        )
        self._run("kubelet", command, inside=True)

    def start_dns(self) -> None:
        """The cluster's DNS, on the node's own address."""
        data = self._data
        (data / "hosts").write_text("")
        (data / "Corefile").write_text(_COREFILE.format(data=data, address=_ADDRESS))
        self._run("coredns", (str(self._built / "coredns"), "-conf", str(data / "Corefile")))
        wait_for_listener(53, _ADDRESS, seconds=60)

    def start_proxy(self) -> None:
        """kube-proxy: what makes Services reach pods."""
        self.start(
            "kube-proxy",
            "--proxy-mode=nftables",
            f"--hostname-override={NODE}",
            f"--cluster-cidr={_PODS}",
            # What it would otherwise set is the whole machine's.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            "--healthz-bind-address=127.0.0.1:10256",
        )

    def _run(self, name: str, command: Sequence[str], *, inside: bool = False) -> subprocess.Popen[bytes]:
        entering: tuple[str, ...] = ()
        if inside and self._cluster.sandbox is not None:
            entering = self._cluster.sandbox.entering()
        # containerd looks for its shim, and the shim for runc, on the PATH.
        path = f"PATH={self._built}:/usr/sbin:/usr/bin:/sbin:/bin"
        whole = (*entering, "env", path, *command)
        child = self._ends.enter_context(apiserver.program(whole, self._data / f"{name}.log"))
        self._cluster.processes[name] = child
        return child


def _volumes(cluster: Cluster, data: Path) -> None:
    """Volumes that any claim may have, without a class: what the spools of members ask for."""
    manifests: list[dict[str, Any]] = []
    for number in range(_VOLUMES):
        path = data / "volumes" / str(number)
        path.mkdir(parents=True)
        # A kubelet does not change the owner of such a volume, as it does of a real one (fsGroup).
        os.chown(path, 65532, 65532)
        manifests.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"volume-{number}"},
                "spec": {
                    "capacity": {"storage": "10Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": str(path), "type": "Directory"},
                },
            }
        )
    cluster.kubectl.apply(*manifests)


@contextlib.contextmanager
def _no_cgroups_left(data: Path) -> Generator[None]:
    """Containers that were killed with the sandbox leave empty cgroups behind: remove those of this cluster."""
    try:
        yield
    finally:
        tasks = data / "containerd-run" / "io.containerd.runtime.v2.task" / "k8s.io"
        names = {one.name for one in tasks.iterdir()} if tasks.is_dir() else set[str]()
        with contextlib.suppress(TimeoutError):
            until(lambda: not _removed(names), seconds=30, what="cgroups without processes")


def _removed(containers: set[str]) -> list[Path]:
    """Remove the cgroups of these containers; those that could not be, because their processes are about to end."""
    root = Path("/sys/fs/cgroup")
    left: list[Path] = []
    for parent in (root / "k8s.io", *root.glob("*/k8s.io")):
        for path in (parent / name for name in containers):
            if path.is_dir():
                for inner in sorted((one for one in path.rglob("*") if one.is_dir()), reverse=True):
                    with contextlib.suppress(OSError):
                        inner.rmdir()
                try:
                    path.rmdir()
                except OSError:
                    left.append(path)
        with contextlib.suppress(OSError):  # others' may be in it
            parent.rmdir()
    return left


_CONTAINERD: Final = """\
version = 3
root = "{data}/containerd"
state = "{data}/containerd-run"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{data}/containerd.sock"
[ttrpc]
  address = "{data}/containerd.sock.ttrpc"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "docker.io/library/pause:tests"
[plugins."io.containerd.cri.v1.runtime"]
  # Else every sandbox fails where this process may not lower its own score.
  restrict_oom_score_adj = true
  # Else the names of pods' networks stay in /run/netns.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{cni}"]
    conf_dir = "{data}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""
_CNI: Final = """\
{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "pods",
      "isGateway": true,
      "ipMasq": false,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "DATA/cni-state",
        "ranges": [[{"subnet": "PODS"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    }
  ]
}
"""
# Names that the hosts file does not hold do not exist: nothing is asked outside.
_COREFILE: Final = """\
cluster.local in-addr.arpa {{
    bind {address}
    kubernetes {{
        kubeconfig {data}/kubeconfig
        pods insecure
    }}
    errors
}}
. {{
    bind {address}
    hosts {data}/hosts {{
        reload 500ms
        ttl 1
    }}
    errors
}}
"""
