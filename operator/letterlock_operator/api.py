"""The few requests that we make of an API server, on aiohttp, with errors translated in this one place.

Called by `reconcile` (lists), `act` (writes) and `members` (pod annotations). Objects are plain dicts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote, urlencode

import aiohttp

from letterlock_api.base import API_VERSION
from letterlock_api.kinds import KINDS
from letterlock_operator.access import Access

FIELD_MANAGER: Final = "letterlock"
# One request; a list of 10,000 resources takes about 2 s on a small machine, in pages of 500 far less each.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=5)
_PAGE: Final = 500
# Channels of an exec stream, and the largest message that we take: far beyond what a kubelet sends at once.
_STDOUT, _STDERR, _ENDED = 1, 2, 3
_EXEC_LIMIT: Final = 16 << 20

type Object = dict[str, Any]

# Every kind that we touch: where it lives. RBAC (rbac.yaml) grants exactly these.
PATHS: Final[Mapping[str, tuple[str, str]]] = {
    **{kind: (API_VERSION, model.PLURAL) for kind, model in KINDS.items()},
    "Secret": ("v1", "secrets"),
    "ConfigMap": ("v1", "configmaps"),
    "Pod": ("v1", "pods"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Service": ("v1", "services"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "Event": ("v1", "events"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "CertificateSigningRequest": ("certificates.k8s.io/v1", "certificatesigningrequests"),
    # Written by `letterlock crds apply` alone, with rights of its own.
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
}


class APIError(Exception):
    """A request that the API server did not carry out."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(APIError):  # noqa: N818 - says what happened
    """The object is not there."""


class Conflict(APIError):  # noqa: N818 - says what happened
    """It exists already, or has changed since we saw it: observe again."""


class Refused(APIError):  # noqa: N818 - says what happened
    """Not allowed, or not valid: trying the same again does not help."""


class Unavailable(APIError):  # noqa: N818 - says what happened
    """The server could not be reached, was too busy or failed: trying again later may help."""


def _error(status: int, body: str) -> APIError:
    reason, message = "", body[:500]
    try:
        parsed = json.loads(body)
    except ValueError:
        pass
    else:
        if isinstance(parsed, dict):
            answer = cast("Object", parsed)
            reason, message = str(answer.get("reason", "")), str(answer.get("message", body[:500]))
    match status:
        case 404:
            return NotFound(status, reason, message)
        case 409:
            return Conflict(status, reason, message)
        case 408 | 410 | 429:
            return Unavailable(status, reason, message)
        case _ if status >= 500:
            return Unavailable(status, reason, message)
        case _:
            return Refused(status, reason, message)


@dataclass(frozen=True)
class Executed:
    """What a command in a container did."""

    stdout: bytes
    stderr: bytes
    failed: str
    """Why it failed; empty: it did not."""


class API:
    """A client of one API server. Use as an async context manager. `manager`: whom written fields belong to."""

    def __init__(self, access: Access, manager: str = FIELD_MANAGER) -> None:
        self._access = access
        self._manager = manager
        self._session: aiohttp.ClientSession | None = None
        self.counted: Callable[[str, int], None] = lambda _verb, _code: None
        """Hears of every request: its verb and status code; 0: the server could not be reached."""

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._access.ssl_context(), limit=16)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def list(self, kind: str, namespace: str | None, **selectors: str) -> tuple[list[Object], int]:
        """All objects of `kind`, and the revision that the list is of.

        `selectors`: labelSelector, fieldSelector.
        """
        items: list[Object] = []
        query: dict[str, str] = {**selectors, "limit": str(_PAGE)}
        while True:
            page = await self._request("GET", _path(kind, namespace), query=query)
            items.extend(page.get("items") or [])
            follows = page["metadata"].get("continue")
            if not follows:
                return items, int(page["metadata"]["resourceVersion"])
            query = {**query, "continue": follows}

    async def served(self, version: str) -> frozenset[str]:
        """Plural names of what the API server serves of a group's version. Everybody may ask. Raises NotFound."""
        found = await self._request("GET", f"/apis/{version}")
        return frozenset(str(one["name"]) for one in found.get("resources") or ())

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        """The object. Raises NotFound."""
        return await self._request("GET", _path(kind, namespace, name))

    async def create(self, kind: str, namespace: str | None, body: Object) -> Object:
        """POST. Raises Conflict where an object of this name exists. `namespace` None: it is cluster-wide."""
        return await self._request(
            "POST", _path(kind, namespace), query={"fieldManager": self._manager}, body=body
        )

    async def replace(self, kind: str, namespace: str, body: Object) -> Object:
        """PUT with the resourceVersion in `body`. Raises Conflict where the object has changed since."""
        path = _path(kind, namespace, body["metadata"]["name"])
        return await self._request("PUT", path, query={"fieldManager": self._manager}, body=body)

    async def apply(self, kind: str, namespace: str | None, body: Object, *, subresource: str = "") -> Object:
        """Server-side apply as `letterlock`: our fields become exactly `body`, whoever else had set them."""
        path = _path(kind, namespace, body["metadata"]["name"], subresource)
        query = {"fieldManager": self._manager, "force": "true"}
        return await self._request(
            "PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml"
        )

    async def merge(self, kind: str, namespace: str, name: str, body: Object) -> Object:
        """JSON merge patch."""
        return await self._request(
            "PATCH",
            _path(kind, namespace, name),
            query={"fieldManager": self._manager},
            body=body,
            content_type="application/merge-patch+json",
        )

    async def delete(self, kind: str, namespace: str, name: str, uid: str, revision: str = "") -> None:
        """Delete exactly the object with this uid, at this resourceVersion if given. Raises NotFound, Conflict."""
        preconditions = {"uid": uid, **({"resourceVersion": revision} if revision else {})}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        await self._request("DELETE", _path(kind, namespace, name), body=body)

    async def execute(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> Executed:
        """Run `command` in a container and wait for its end, as `kubectl exec` does. Raises APIError."""
        assert self._session is not None, "the client is used as a context manager"  # noqa: S101
        path = f"{_path('Pod', namespace, pod)}/exec"
        query = [("container", container), ("stdout", "true"), ("stderr", "true")]
        query += [("command", word) for word in command]
        headers = {"Authorization": f"Bearer {token}"} if (token := self._access.bearer()) else {}
        stdout, stderr, ended = bytearray(), bytearray(), b""
        try:
            # The oldest protocol that tells the exit status: every API server and kubelet speaks it.
            async with self._session.ws_connect(
                f"{self._access.server}{path}?{urlencode(query)}",
                protocols=["v4.channel.k8s.io"],
                headers=headers,
                max_msg_size=_EXEC_LIMIT,
            ) as stream:
                async for message in stream:
                    if message.type is aiohttp.WSMsgType.BINARY and message.data:
                        channel, data = message.data[0], message.data[1:]
                        if channel == _STDOUT:
                            stdout += data
                        elif channel == _STDERR:
                            stderr += data
                        elif channel == _ENDED:
                            ended = data
        except aiohttp.WSServerHandshakeError as error:
            raise _error(error.status, f"{error.message} (exec in pod {pod})") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(
                0, "Unreachable", f"exec in pod {pod}: {error or type(error).__name__}"
            ) from error
        return Executed(bytes(stdout), bytes(stderr), _failed(ended))

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        assert self._session is not None, "the client is used as a context manager"  # noqa: S101
        headers = {"Accept": "application/json"}
        if token := self._access.bearer():
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body, separators=(",", ":")).encode()
        try:
            async with self._session.request(
                method, self._access.server + path, params=query, data=data, headers=headers
            ) as response:
                text = await response.text()
                self.counted(method, response.status)
                if response.status >= 400:
                    raise _error(response.status, text)
                return json.loads(text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.counted(method, 0)
            problem = f"{method} {path}: {error or type(error).__name__}"
            raise Unavailable(0, "Unreachable", problem) from error


def _failed(ended: bytes) -> str:
    """Of the Status that ends an exec: empty for success, else what went wrong."""
    try:
        status = cast("Object", json.loads(ended))
    except ValueError:
        return "the connection ended before the command"
    return "" if status.get("status") == "Success" else str(status.get("message") or "it failed")


def _path(kind: str, namespace: str | None, name: str = "", subresource: str = "") -> str:
    version, plural = PATHS[kind]
    parts = ["/api" if version == "v1" else "/apis", version]
    if namespace is not None:
        parts += ["namespaces", quote(namespace)]
    parts += [part for part in (plural, quote(name), subresource) if part]
    return "/".join(parts)
