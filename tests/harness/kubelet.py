"""A stand-in for the kubelets of a namespace: runs a gateway's members as processes, as its pods say.

For every pod that a gateway's StatefulSet has, it fills a mount folder from the pod's projected volume as a
kubelet does (a folder with a timestamp, moved into place by renaming the link `..data`), starts the member on
it, and writes the pod's status: its address, and whether it is Ready. A changed pod annotation refreshes the
mount at once, as on a real kubelet; otherwise that takes a while. Each member has a loopback address.
"""

import base64
import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, cast

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from letterlock_api.state import HEALTH_PORT, STATE_PORT
from tests.harness.apiserver import api_client

_LOOK_EVERY: Final = 0.1  # seconds; a real kubelet reacts to a changed pod within about 0.13 s
_STOP_WITHIN: Final = 15.0
_RESTART_AFTER: Final = 1.0
# Options that say where things are in a pod; here they are elsewhere.
_REPLACED: Final = frozenset(
    {
        "--mount",
        "--spool",
        "--member",
        "--address",
        "--state-address",
        "--state-port",
        "--health-port",
        "--workers",
        # Nothing has to hear of an end here, and tests do not wait for it.
        "--linger",
        "--grace",
    }
)


@dataclass
class Pod:
    """One pod, as it runs here."""

    name: str
    uid: str
    address: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    refreshed: float = 0.0
    started: float = 0.0
    starts: int = 0
    reported: tuple[bool, int] | None = None
    """What of its status was written last."""

    @property
    def mount(self) -> Path:
        """What the member has mounted."""
        return self.folder / "mount"

    @property
    def spool(self) -> Path:
        """Its volume: it outlives the pod, as a StatefulSet's does."""
        return self.folder / "spool"

    @property
    def log(self) -> Path:
        """All that it has printed."""
        return self.folder / "log"


class Kubelet:
    """Runs the members of one namespace in a thread. Use as a context manager, or call `start` and `stop`."""

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        folder: Path,
        *,
        program: Sequence[str] = (sys.executable, "-m", "letterlock_cli", "gateway"),
        extra: Sequence[str] = ("--workers", "1"),
        refresh: float = 60.0,
        environment: Mapping[str, str] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        """`extra`: options for every member. `refresh`: seconds until mounts are refreshed without a hint.

        `only`: the members that are run; the pods of others are nobody's. None: all.
        """
        self._only = only
        self._client = cast("Any", api_client(kubeconfig))
        self._core = cast("Any", client.CoreV1Api(self._client))
        self._namespace = namespace
        self._folder = folder
        self._program = tuple(program)
        self._extra = tuple(extra)
        self._refresh = refresh
        self._environment = {**os.environ, **(environment or {})}
        # An address per member, so that all can use the same ports; another net per kubelet of a test run.
        self._net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self._hosts = itertools.count(1)
        self._addresses: dict[str, str] = {}
        self._pods: dict[str, Pod] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kubelet of {namespace}", daemon=True)
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to run pods."""
        self._thread.start()

    def stop(self) -> None:
        """End all members and look no more."""
        self._stopping.set()
        self._thread.join()
        with self._lock:
            for pod in self._pods.values():
                self._end(pod)
            self._pods.clear()
        self._client.close()

    def members(self) -> list[str]:
        """The pods that run here now."""
        with self._lock:
            return sorted(self._pods)

    def pod(self, member: str) -> Pod:
        """The pod of that name. Raises KeyError where it does not run here."""
        with self._lock:
            return self._pods[member]

    def address(self, member: str) -> str:
        """The member's address: the same for as long as this kubelet lives."""
        with self._lock:
            if member not in self._addresses:
                self._addresses[member] = f"{self._net}.{next(self._hosts)}"
            return self._addresses[member]

    def kill9(self, member: str) -> None:
        """End the member, workers included, without any warning; it is started again at once."""
        process = self.pod(member).process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY):
            try:
                self._look()
            except (ApiException, HTTPError, OSError) as error:
                self.problems.append(str(error))

    def _look(self) -> None:
        listed = self._core.list_namespaced_pod(self._namespace, _preload_content=False, resource_version="0")
        items: list[dict[str, Any]] = _json(listed)["items"]
        present = {
            item["metadata"]["uid"]: item
            for item in items
            if _is_member(item) and (self._only is None or item["metadata"]["name"] in self._only)
        }
        with self._lock:
            for name, pod in list(self._pods.items()):
                item = present.get(pod.uid)
                if item is None or item["metadata"].get("deletionTimestamp"):
                    self._end(pod)
                    del self._pods[name]
                    if item is not None:
                        self._remove(item)
            for item in present.values():
                name = item["metadata"]["name"]
                if item["metadata"].get("deletionTimestamp"):
                    if name not in self._pods:
                        self._remove(item)
                    continue
                if name not in self._pods:
                    # A pod that another one of us ran before keeps its address, as the API server asks.
                    status: dict[str, str] = item.get("status") or {}
                    before = status.get("podIP")
                    if before:
                        self._addresses.setdefault(name, before)
                    address = self.address(name)
                    self._pods[name] = Pod(name, item["metadata"]["uid"], address, self._folder / name)
                    shutil.rmtree(self._pods[name].mount, ignore_errors=True)
                try:
                    self._keep(self._pods[name], item)
                except (ApiException, HTTPError, OSError) as error:
                    self.problems.append(f"{name}: {error}")

    def _keep(self, pod: Pod, item: dict[str, Any]) -> None:
        """Refresh its mount where it is time, keep its process running, and say how it is."""
        annotations: Mapping[str, str] = item["metadata"].get("annotations") or {}
        now = time.monotonic()
        if annotations != pod.annotations or now - pod.refreshed > self._refresh or not pod.mount.exists():
            pod.annotations, pod.refreshed = annotations, now
            project(self._files(item), pod.mount)
        ended = pod.process is None or pod.process.poll() is not None
        # One that cannot even start is not tried ten times a second.
        if ended and now - pod.started > _RESTART_AFTER:
            pod.started = now
            self._start(pod, item)
        self._report(pod, item)

    def _start(self, pod: Pod, item: dict[str, Any]) -> None:
        pod.starts += 1
        pod.spool.mkdir(parents=True, exist_ok=True)
        container: dict[str, Any] = item["spec"]["containers"][0]
        given = list(cast("list[str]", container.get("args") or []))
        command = [
            *self._program,
            *_kept(given),
            *("--mount", str(pod.mount), "--spool", str(pod.spool), "--member", pod.name),
            *("--address", pod.address, "--state-address", pod.address),
            *("--state-port", str(STATE_PORT), "--health-port", str(HEALTH_PORT)),
            *self._extra,
        ]
        with pod.log.open("ab") as log:
            pod.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def _end(self, pod: Pod) -> None:
        if pod.process is None:
            return
        if pod.process.poll() is None:
            pod.process.terminate()
            try:
                pod.process.wait(_STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self.problems.append(f"{pod.name} did not end within {_STOP_WITHIN} s of SIGTERM")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pod.process.pid, signal.SIGKILL)
        pod.process.wait()

    def _report(self, pod: Pod, item: dict[str, Any]) -> None:
        ready = _answers(f"http://{pod.address}:{HEALTH_PORT}/readyz")
        if pod.reported == (ready, pod.starts):
            return
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        word = "True" if ready else "False"
        status = {
            "phase": "Running",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "startTime": moment,
            "conditions": [
                {"type": kind, "status": word, "lastTransitionTime": moment}
                for kind in ("Ready", "ContainersReady")
            ],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready,
                    "restartCount": max(pod.starts - 1, 0),
                    "state": {"running": {"startedAt": moment}},
                }
                for container in item["spec"]["containers"]
            ],
        }
        self._core.patch_namespaced_pod_status(
            pod.name, self._namespace, {"metadata": {"uid": pod.uid}, "status": status}
        )
        pod.reported = (ready, pod.starts)

    def _remove(self, item: dict[str, Any]) -> None:
        """A deleted pod is gone once its kubelet says that nothing of it runs any more."""
        with contextlib.suppress(ApiException):
            self._core.delete_namespaced_pod(
                item["metadata"]["name"], self._namespace, grace_period_seconds=0
            )

    def _files(self, item: dict[str, Any]) -> dict[str, bytes]:
        """What the pod's projected volume holds now: the sources' data, those that are missing left out."""
        files: dict[str, bytes] = {}
        for volume in item["spec"].get("volumes") or ():
            # Every pod has one more, with the token that a kubelet would ask for.
            if volume["name"].startswith("kube-api-access"):
                continue
            projected: dict[str, list[dict[str, Any]]] = volume.get("projected") or {}
            for source in projected.get("sources") or ():
                files |= self._source(source)
        return files

    def _source(self, source: dict[str, Any]) -> dict[str, bytes]:
        if "secret" in source:
            wanted, read = source["secret"], self._core.read_namespaced_secret
        elif "configMap" in source:
            wanted, read = source["configMap"], self._core.read_namespaced_config_map
        else:
            return {}
        try:
            found = _json(read(wanted["name"], self._namespace, _preload_content=False))
        except ApiException as error:
            if error.status == 404 and wanted.get("optional"):
                return {}
            raise
        data: dict[str, str] = found.get("data") or {}
        files = {
            key: base64.b64decode(value) if "secret" in source else value.encode()
            for key, value in data.items()
        }
        binary: dict[str, str] = found.get("binaryData") or {}
        files |= {key: base64.b64decode(value) for key, value in binary.items()}
        items: list[dict[str, str]] = wanted.get("items") or []
        return {one["path"]: files[one["key"]] for one in items if one["key"] in files} if items else files


def project(files: Mapping[str, bytes], mount: Path) -> None:
    """Make `mount` hold exactly `files`, at one stroke, as a kubelet's atomic writer does.

    The files lie in a folder with a timestamp, `..data` is a link to it that is replaced by renaming, and
    each file that the reader sees is a link through `..data`.
    """
    mount.mkdir(parents=True, exist_ok=True)
    data = mount / "..data"
    before = data.readlink() if data.is_symlink() else None
    if before is not None:
        old = mount / before
        if {path.name: path.read_bytes() for path in old.iterdir()} == dict(files):
            return
    stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.") + str(secrets.randbelow(10**10))
    fresh = mount / stamp
    fresh.mkdir()
    for name, content in files.items():
        (fresh / name).write_bytes(content)
    link = mount / "..data_tmp"
    link.symlink_to(stamp)
    link.rename(data)
    for name in files:
        seen = mount / name
        if not seen.is_symlink():
            seen.symlink_to(Path("..data") / name)
    for seen in mount.iterdir():
        if seen.is_symlink() and seen.name != "..data" and seen.name not in files:
            seen.unlink()
    if before is not None:
        shutil.rmtree(mount / before)


def _is_member(item: dict[str, Any]) -> bool:
    return "letterlock.dev/gateway" in (item["metadata"].get("labels") or {}) and any(
        reference["kind"] == "StatefulSet" for reference in item["metadata"].get("ownerReferences") or ()
    )


def _kept(given: Sequence[str]) -> list[str]:
    """The container's arguments but for the command's own name and those options that are replaced here."""
    kept: list[str] = []
    arguments = iter(given[1:] if given[:1] == ["gateway"] else given)
    for argument in arguments:
        option, has_value, _ = argument.partition("=")
        if option not in _REPLACED:
            kept.append(argument)
        elif not has_value:
            next(arguments, None)
    return kept


def _answers(url: str) -> bool:
    try:
        # A real kubelet takes three that fail for one that is not ready; a loaded machine is slow.
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _json(response: Any) -> Any:
    return json.loads(response.data)
