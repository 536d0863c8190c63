"""A real API server for tests: etcd, kube-apiserver and kube-controller-manager on free loopback ports.

The fixtures in `tests/conftest.py` start one per test session and give every test a fresh namespace.
There are no nodes: StatefulSets get their pods, and nothing runs them (`kubelet.py` stands in where a
test needs members).
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self, cast

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import config
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration

from tests.harness.ports import free_port
from tests.harness.waiting import until

_HERE: Final = Path(__file__).parent
_REPOSITORY: Final = _HERE.parents[1]
CRDS: Final = _REPOSITORY / "crds"
FOREIGN_CRD: Final = _HERE / "kube" / "foreign-certificates.yaml"
_ADMIN_TOKEN: Final = "letterlock-tests"
# The oldest API server that can be built (kube/oldest) is newer than the oldest that we promise, 1.30. It can behave as
# three releases before itself, in its APIs, their defaults, and what definitions and policies may say in CEL.
OLDEST_BEHAVES_AS: Final = "1.31"


class KubectlFailed(AssertionError):  # noqa: N818 - it failed, whosever error it was
    """kubectl ended with an error; the text is what it wrote to stderr."""


@dataclass(frozen=True)
class Kubectl:
    """The kubectl program towards one API server, in one namespace. Calling it gives its standard output."""

    program: Path
    kubeconfig: Path
    namespace: str = "default"

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """One run, whatever comes of it."""
        command = (str(self.program), "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace)
        return subprocess.run(
            (*command, *arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of a run that went well. Raises KubectlFailed."""
        done = self.run(*arguments, stdin=stdin)
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """The answer to a `get`, as JSON."""
        return json.loads(self(*arguments, "--output", "json"))

    def apply(self, *manifests: Mapping[str, Any]) -> str:
        """Apply manifests that are given as data."""
        return self("apply", "--filename", "-", stdin=yaml.safe_dump_all(manifests))

    def refusal(self, *manifests: Mapping[str, Any]) -> str:
        """What is said when these manifests are refused. Raises AssertionError where they are taken."""
        done = self.run("apply", "--dry-run=server", "--filename", "-", stdin=yaml.safe_dump_all(manifests))
        if done.returncode == 0:
            raise AssertionError(f"taken, though it should be refused: {done.stdout.strip()}")
        return done.stderr

    def within(self, namespace: str) -> Self:
        """The same, in another namespace."""
        return replace(self, namespace=namespace)


@dataclass(frozen=True)
class ApiServer:
    """A running API server, and how to reach it as administrator."""

    url: str
    kubeconfig: Path
    ca_file: Path
    token: str
    kubectl: Kubectl

    @contextlib.contextmanager
    def fresh_namespace(self, prefix: str = "test") -> Generator[str]:
        """A namespace of its own; it is deleted (without waiting for the end) on leaving."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": f"{prefix}-"}}
        created = self.kubectl(
            "create", "--filename", "-", "--output", "name", stdin=yaml.safe_dump(manifest)
        )
        name = created.strip().removeprefix("namespace/")
        try:
            # The controller manager makes it; without it no pod can be made.
            until(
                lambda: self.kubectl.within(name).run("get", "serviceaccount", "default").returncode == 0,
                seconds=60,
                what=f"service account in namespace {name}",
            )
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")


@contextlib.contextmanager
def running(*, oldest: bool = False) -> Generator[ApiServer]:
    """An API server with our CRDs and a foreign CRD of plural `certificates`; ended on leaving.

    `oldest`: of the oldest release that can be built, which behaves as `OLDEST_BEHAVES_AS`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="letterlock-apiserver-") as folder,
        contextlib.ExitStack() as ends,
    ):
        server, _ = control_plane(binaries(), Path(folder), ends, oldest=oldest)
        install_crds(server)
        yield server


def control_plane(
    programs: Path,
    data: Path,
    ends: contextlib.ExitStack,
    *,
    address: str = "127.0.0.1",
    oldest: bool = False,
) -> tuple[ApiServer, subprocess.Popen[bytes]]:
    """etcd, API server and controller manager, ended with `ends`. Gives the API server and its process.

    `address`: where it is reached; any but loopback is for nodes too, in a network of their own.
    """
    url = f"https://{address}:{free_port()}"
    _write_credentials(data, url, address)
    kubectl = Kubectl(programs / "kubectl", data / "kubeconfig")
    # ExitStack ends them in reverse order: without etcd the API server takes minutes to leave.
    etcd_url = _start_etcd(programs, data, ends)
    program = binaries("oldest") if oldest else programs
    options = (f"--emulated-version={OLDEST_BEHAVES_AS}",) if oldest else ()
    child = _start_apiserver(program, data, url, etcd_url, kubectl, ends, options)
    _start_controller_manager(programs, data, ends, elected=address != "127.0.0.1")
    return ApiServer(url, data / "kubeconfig", data / "ca.pem", _ADMIN_TOKEN, kubectl), child


def api_client(kubeconfig: Path, *, connections: int = 4) -> ApiClient:
    """A client for what kubectl would be too slow for; close it. `connections`: how many requests it makes at once."""
    loaded = cast("Any", Configuration())
    config.load_kube_config(str(kubeconfig), client_configuration=loaded, persist_config=False)
    loaded.connection_pool_maxsize = connections
    return ApiClient(loaded)


def binaries(*which: str) -> Path:
    """The folder with the programs that `kube/build.sh` builds. `which`: its argument."""
    built = subprocess.run(
        (str(_HERE / "kube" / "build.sh"), *which), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return Path(built.strip())


def _write_credentials(data: Path, url: str, address: str) -> None:
    authority = trustme.CA(organization_name="Letterlock tests")
    authority.cert_pem.write_to_path(data / "ca.pem")
    authority.private_key_pem.write_to_path(data / "ca.key")
    # The first address of the Services is the API server's own, for pods.
    names = dict.fromkeys(("127.0.0.1", address, "10.96.0.1", "localhost", "kubernetes.default.svc"))
    # A kubelet knows who asks by the common name.
    own = authority.issue_cert(*names, common_name="kube-apiserver")
    own.private_key_pem.write_to_path(data / "server.key")
    own.cert_chain_pems[0].write_to_path(data / "server.pem")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (data / "accounts.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    (data / "tokens.csv").write_text(f'{_ADMIN_TOKEN},admin,admin,"system:masters"\n')
    (data / "kubeconfig").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "tests",
                        "cluster": {"server": url, "certificate-authority": str(data / "ca.pem")},
                    }
                ],
                "users": [{"name": "admin", "user": {"token": _ADMIN_TOKEN}}],
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
                "current-context": "tests",
            }
        )
    )


@contextlib.contextmanager
def program(command: Sequence[str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """A child that is ended by its id on leaving, and by the kernel should this process be killed."""
    guard = shutil.which("setpriv")
    prefix = (guard, "--pdeathsig", "KILL", "--") if guard else ()
    with log.open("wb") as output:
        child = subprocess.Popen(
            (*prefix, *command), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_until_ready(
    child: subprocess.Popen[bytes], log: Path, ready: Sequence[str], *, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while subprocess.run(ready, capture_output=True, check=False).returncode != 0:
        if child.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{log.stem} is not ready (exit status {child.poll()}):\n{tail}")
        time.sleep(0.1)


def _start_etcd(programs: Path, data: Path, ends: contextlib.ExitStack) -> str:
    clients, peers = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    command = (
        str(programs / "etcd"),
        f"--data-dir={data / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    ends.enter_context(program(command, data / "etcd.log"))
    return clients  # the API server waits for it by itself


def _start_apiserver(
    programs: Path,
    data: Path,
    url: str,
    etcd_url: str,
    kubectl: Kubectl,
    ends: contextlib.ExitStack,
    options: Sequence[str],
) -> subprocess.Popen[bytes]:
    log = data / "kube-apiserver.log"
    host, _, port = url.removeprefix("https://").rpartition(":")
    command = (
        str(programs / "kube-apiserver"),
        f"--etcd-servers={etcd_url}",
        f"--secure-port={port}",
        f"--bind-address={host if host == '127.0.0.1' else '0.0.0.0'}",
        *(() if host == "127.0.0.1" else (f"--advertise-address={host}",)),
        # Towards kubelets, for logs and exec: they take any certificate of this CA.
        f"--kubelet-client-certificate={data / 'server.pem'}",
        f"--kubelet-client-key={data / 'server.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--tls-cert-file={data / 'server.pem'}",
        f"--tls-private-key-file={data / 'server.key'}",
        f"--client-ca-file={data / 'ca.pem'}",
        f"--token-auth-file={data / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={data / 'accounts.key'}",
        f"--service-account-signing-key-file={data / 'accounts.key'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--allow-privileged",
        "--profiling=false",
        *options,
    )
    child = ends.enter_context(program(command, log))
    probe = (str(kubectl.program), "--kubeconfig", str(kubectl.kubeconfig), "get", "--raw", "/readyz")
    wait_until_ready(child, log, probe)
    return child


# Started again when it ends by itself, and ended with this shell.
_KEPT_RUNNING: Final = (
    "sh",
    "-c",
    """trap 'kill $!; exit' TERM; while :; do "$@" & wait $!; sleep 1; done""",
    "sh",
)


def _start_controller_manager(
    programs: Path, data: Path, ends: contextlib.ExitStack, *, elected: bool
) -> None:
    """`elected`: as on every cluster, one that cannot renew its Lease ends, and the next one begins anew.

    One that lives through a minute without API server takes the nodes for dead afterwards, before it has seen that
    their kubelets report again, and has their pods not ready (node_lifecycle_controller.go, `tryUpdateNodeHealth`).
    """
    command = (
        *(_KEPT_RUNNING if elected else ()),
        str(programs / "kube-controller-manager"),
        f"--kubeconfig={data / 'kubeconfig'}",
        "--secure-port=0",
        f"--leader-elect={'true' if elected else 'false'}",
        f"--service-account-private-key-file={data / 'accounts.key'}",
        f"--root-ca-file={data / 'ca.pem'}",
        f"--cluster-signing-cert-file={data / 'ca.pem'}",
        f"--cluster-signing-key-file={data / 'ca.key'}",
        "--use-service-account-credentials=false",
    )
    ends.enter_context(program(command, data / "kube-controller-manager.log"))


def install_crds(server: ApiServer) -> None:
    """Our CRDs and the foreign one; returns once they can be used."""
    _install(server, *sorted(CRDS.glob("*.yaml")), FOREIGN_CRD)


def install_foreign_crd(server: ApiServer) -> None:
    """The one that has our plural `certificates`; returns once it can be used."""
    _install(server, FOREIGN_CRD)


def _install(server: ApiServer, *files: Path) -> None:
    named = [f"--filename={file}" for file in files]
    server.kubectl("apply", "--server-side", *named)
    server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *named)
    # Established says that the names are ours; for a moment more, lists are answered with 429 (kubectl tries again).
    for name in server.kubectl("get", "--output=jsonpath={.items[*].metadata.name}", *named).split():
        until(
            lambda name=name: server.kubectl.run("get", name, "--all-namespaces").returncode == 0,
            what=f"a list of {name}",
        )
