"""Requests to Kubernetes signers (certificates.k8s.io/v1): made by `act.carry`, looked up again by `reconcile`.

They belong to the whole cluster, so no namespaced object can own them; Kubernetes removes them by itself, an hour
after they were answered or a day after they were made.
"""

import base64
import binascii
import logging
from collections.abc import Mapping
from typing import Any, Final

from letterlock_api.base import GROUP, parse_time
from letterlock_operator import api, names
from letterlock_operator.act.cluster import Cluster
from letterlock_operator.api import Object
from letterlock_operator.plan import Request
from letterlock_operator.world import RequestState, SigningRequest, Unreadable

KIND: Final = "CertificateSigningRequest"
_NAMESPACE = f"{GROUP}/namespace"
_CERTIFICATE, _MEMBER, _ATTEMPT = f"{GROUP}/certificate", f"{GROUP}/member", f"{GROUP}/attempt"
# In the order that counts: a signer may fail what was approved.
_DECIDED: Final[tuple[RequestState, ...]] = ("Denied", "Failed", "Approved")
_log = logging.getLogger(__name__)


async def ask(cluster: Cluster, order: Request) -> None:
    """Make the request. Raises api.APIError; one that is there already is none."""
    body: Object = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": KIND,
        "metadata": {
            "name": order.name,
            "labels": {names.MANAGED_BY: names.MANAGER, _NAMESPACE: cluster.namespace},
            "annotations": {
                _CERTIFICATE: order.certificate,
                _MEMBER: order.member,
                _ATTEMPT: str(order.attempt),
            },
        },
        "spec": {
            "request": base64.b64encode(order.request).decode(),
            "signerName": order.signer,
            "usages": list(order.usages),
            "expirationSeconds": order.seconds,
        },
    }
    try:
        await cluster.api.create(KIND, None, body)
    except api.Conflict:
        return
    _log.info("signer %s asked for a certificate for Certificate/%s", order.signer, order.certificate)


async def observed(client: api.API, namespace: str) -> Mapping[str, SigningRequest] | Unreadable:
    """The requests of the namespace's Certificates, by name. Raises api.Unavailable."""
    try:
        items, _ = await client.list(KIND, None, labelSelector=f"{_NAMESPACE}={namespace}")
    except (api.Refused, api.NotFound) as error:
        return Unreadable(str(error))
    return {one.name: one for one in map(_read, items)}


def _read(item: Object) -> SigningRequest:
    metadata = item["metadata"]
    status: Mapping[str, Any] = item.get("status") or {}
    notes: Mapping[str, str] = metadata.get("annotations") or {}
    conditions: Mapping[str, Any] = {one["type"]: one for one in status.get("conditions") or ()}
    decided: list[RequestState] = [one for one in _DECIDED if conditions.get(one)]
    state: RequestState = decided[0] if decided else "Pending"
    found: Mapping[str, Any] = conditions.get(state) or {}
    since = (
        found.get("lastUpdateTime") or found.get("lastTransitionTime") or metadata.get("creationTimestamp")
    )
    attempt = notes.get(_ATTEMPT, "0")
    said = found.get("message") or found.get("reason") or ""
    return SigningRequest(
        name=metadata["name"],
        certificate=notes.get(_CERTIFICATE, ""),
        member=notes.get(_MEMBER, ""),
        attempt=int(attempt) if attempt.isdigit() else 0,
        state=state,
        message=str(said) if state in {"Denied", "Failed"} else "",
        since=parse_time(str(since)) if since else None,
        chain=_decoded(str(status.get("certificate") or "")),
    )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
